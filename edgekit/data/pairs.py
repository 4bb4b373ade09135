"""The data of a recipe for task clip: pictures with captions, read or rendered, in three parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.data.captions import read_captions
from edgekit.data.parts import make_parts
from edgekit.data.pictures import PictureSplits, PictureTextSet, fingerprint
from edgekit.data.rendered import NAME, RenderedConfig, load_rendered
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
    splits = make_parts(_read(train), given, fractions, seed, train.path)
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
    return read_captions(
        source.path,
        folder=source.folder,
        image=source.image,
        caption=source.text,
        format=source.format,
        encoding=source.encoding,
        limit=source.limit,
    )
