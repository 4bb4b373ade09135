"""The data of a recipe for task clip: pictures with captions, read or rendered, in three parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.data.captions import read_captions
from edgekit.data.embeddings import CachedEmbeddings, read_embeddings
from edgekit.data.parts import make_parts
from edgekit.data.pictures import PictureSplits, PictureTextSet, fingerprint
from edgekit.data.rendered import NAME, RenderedConfig, load_rendered
from edgekit.data.tables import count
from edgekit.errors import DataError, RecipeError
from edgekit.recipe import DataConfig, Source


def load_pairs(data: DataConfig, seed: int) -> PictureSplits[PictureTextSet]:
    """Read, check and split ``data``. What the recipe does not give is cut from train, by picture.

    Raises RecipeError for several sources of a part, DataError as the readers do.
    """
    train = _only(data.train, "train")
    if train is None:
        raise DataError("training data", found="none", expected="a caption file or `rendered`")
    if train.path == NAME:
        if data.validation or data.test:
            raise RecipeError("data", found="other parts beside rendered", expected="rendered alone: it has its own")
        return load_rendered(RenderedConfig(data.max_examples or RenderedConfig.train, seed=seed))
    given = {
        part: None if source is None else _read(source)
        for part, source in (("test", _only(data.test, "test")), ("validation", _only(data.validation, "validation")))
    }
    fractions = {"test": data.test_fraction, "validation": data.validation_fraction}
    whole = _read(train)
    for part, ready in given.items():
        if ready is not None and (ready.targets is None) != (whole.targets is None):
            raise RecipeError(f"data.{part}.embeddings", found="not as data.train", expected="all parts or none")
    splits = make_parts(whole, given, fractions, seed, train.path)
    if data.max_examples and data.max_examples < len(splits.train):
        rows = np.sort(np.random.default_rng(seed).permutation(len(splits.train))[: data.max_examples])
        rule = f"train: {data.max_examples} of {len(splits.train)} pictures, drawn by seed {seed}"
        train_part = splits.train.take(rows)
        digest = fingerprint(train_part, splits.validation, splits.test)
        splits = replace(splits, train=train_part, rules=[*splits.rules, rule], fingerprint=digest)
    return splits


def _only(sources: list[Source] | None, part: str) -> Source | None:
    if not sources:
        return None
    if len(sources) > 1:
        raise RecipeError(f"data.{part}", found=f"{len(sources)} sources", expected="one, for task clip")
    return sources[0]


def _read(source: Source) -> PictureTextSet:
    data = read_captions(
        source.path,
        folder=source.folder,
        image=source.image,
        caption=source.text,
        format=source.format,
        encoding=source.encoding,
        limit=source.limit,
    )
    return data if source.embeddings is None else with_targets(data, read_embeddings(source.embeddings))


def with_targets(data: PictureTextSet, cached: CachedEmbeddings) -> PictureTextSet:
    """``data`` with the embeddings of ``cached``, brought to unit length; pictures that it does not name are left out.

    Raises DataError when it names none of them.
    """
    known = set(cached.names)
    rows = [row for row, name in enumerate(data.pictures.names) if name in known]
    if not rows:
        raise DataError(
            "cached embeddings",
            found=f"none of {count(len(data), 'picture')}, such as {data.pictures.names[0]}",
            expected="the names of the pictures as the captions have them",
        )
    kept = data.take(rows)
    targets = cached.of([data.pictures.names[row] for row in rows])
    rules = [*data.rules, *cached.rules]
    if len(rows) < len(data):
        rules.append(f"{count(len(data) - len(rows), 'picture')} dropped: no embedding of the cached teacher")
    targets = targets / np.linalg.norm(targets, axis=1, keepdims=True)
    return replace(kept, targets=targets.astype(np.float32), rules=rules)
