"""Picture sets in three parts: a picture, by its content, is never in two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgekit.data.captions import read_captions
from edgekit.data.folders import part_folders, read_folder
from edgekit.data.pictures import PictureSet, PictureSplits, PictureTextSet, fingerprint
from edgekit.data.records import fold
from edgekit.data.split import cut
from edgekit.data.tables import count, short
from edgekit.errors import DataError

SetT = TypeVar("SetT", PictureTextSet, PictureSet)


def load_captions(
    train: Path | str,
    *,
    validation: Path | str | None = None,
    test: Path | str | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    **reading: Any,
) -> PictureSplits[PictureTextSet]:
    """The three parts of a caption set; those that are not given are cut from train, by picture.

    ``reading`` goes to :func:`~edgekit.data.captions.read_captions` for every file. DataError as there, and for fewer
    pictures than parts.
    """
    given = {
        part: None if path is None else read_captions(path, **reading)
        for part, path in (("test", test), ("validation", validation))
    }
    fractions = {"test": test_fraction, "validation": validation_fraction}
    return make_parts(read_captions(train, **reading), given, fractions, seed, short(str(train)))


def load_folders(
    path: Path | str,
    *,
    seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    names: Mapping[str, str] | Path | str | None = None,
    limit: int | None = None,
) -> PictureSplits[PictureSet]:
    """The three parts of a set with a folder a class, or of a folder with ``train``, ``val`` and ``test`` of such.

    Parts that are not there are cut from train, in proportion to the classes; with one evaluation folder alone, it is
    the test part. Arguments and errors as in :func:`~edgekit.data.folders.read_folder`.
    """
    root = Path(path).expanduser()
    folders = part_folders(root)
    train = read_folder(folders.get("train", root), names=names, limit=limit)
    rules: list[str] = []
    if "validation" in folders and "test" not in folders:
        folders["test"] = folders.pop("validation")
        rules.append(f"{root.name}: no test folder, so {folders['test'].name} is the test part")
    given = {
        part: read_folder(folders[part], names=names, classes=train.names, limit=limit) if part in folders else None
        for part in ("test", "validation")
    }
    fractions = {"test": test_fraction, "validation": validation_fraction}
    return make_parts(train, given, fractions, seed, short(str(root)), rules)


def make_parts(
    train: SetT,
    given: Mapping[str, SetT | None],
    fractions: Mapping[str, float],
    seed: int,
    name: str,
    rules: Sequence[str] = (),
) -> PictureSplits[SetT]:
    """Train, validation and test: what ``given`` lacks is cut from ``train``, by hash of the content and ``seed``.

    Pictures of equal content stay together, and those of train that test or validation hold too are dropped from
    train. DataError where a part would be empty, or a class lose all of its training pictures.
    """
    said = [*rules, *train.rules]
    parts: dict[str, SetT] = {}
    for part in ("test", "validation"):
        ready = given.get(part)
        if ready is not None:
            said += [rule for rule in ready.rules if rule not in said]
            parts[part] = ready
        else:
            train, parts[part] = _cut(train, part, fractions[part], seed, said)
    before = train
    for part, others in (("validation", ["test"]), ("train", ["validation", "test"])):
        held = {digest for other in others for digest in parts[other].pictures.digests}
        own = parts.get(part, train)
        keep = [row for row, digest in enumerate(own.pictures.digests) if digest not in held]
        if not keep:
            raise DataError(f"{part} pictures", found=f"all {len(own)} in {' or '.join(others)} too", expected="others")
        if len(keep) < len(own):
            said.append(f"{count(len(own) - len(keep), 'picture')} dropped from {part}: in {' or '.join(others)} too")
        parts[part] = own.take(keep) if len(keep) < len(own) else own
    if isinstance(before, PictureSet) and isinstance(parts["train"], PictureSet):
        lost = set(before.labels.tolist()) - set(parts["train"].labels.tolist())
        if lost:
            raise DataError(
                "training pictures", found=f"none left of class `{before.names[min(lost)]}`", expected="some of each"
            )
    said += _shared_captions(parts["train"], parts["test"])
    digest = fingerprint(parts["train"], parts["validation"], parts["test"])
    return PictureSplits(
        parts["train"], parts["validation"], parts["test"], list(dict.fromkeys(said)), digest, name=name
    )


def _cut(train: SetT, part: str, fraction: float, seed: int, said: list[str]) -> tuple[SetT, SetT]:
    digests = list(train.pictures.digests)
    classes = isinstance(train, PictureSet)
    strata = [train.names[label] for label in train.labels] if isinstance(train, PictureSet) else [""] * len(train)
    chosen = cut(digests, strata, max(1, round(fraction * len(train))), f"{seed} {part}")
    if not chosen:
        raise DataError(
            "training pictures",
            found=f"{len(train)}, too few to cut a {part} part from",
            expected="at least two different pictures" + (" of some class" if classes else ""),
            fix=f"Give a {part} part of its own, or more pictures.",
        )
    gone = set(chosen)
    kept = "in proportion to the classes, " if classes else ""
    said.append(f"{part}: {count(len(chosen), 'picture')} cut from train, {kept}by hash of content and seed {seed}")
    return train.take([row for row in range(len(train)) if row not in gone]), train.take(chosen)


def _shared_captions(train: PictureTextSet | PictureSet, test: PictureTextSet | PictureSet) -> list[str]:
    """Different pictures may have the same caption; a reader of the results should know how many."""
    if isinstance(train, PictureSet) or isinstance(test, PictureSet):
        return []
    seen = {fold(caption) for caption in train.captions}
    shared = int(np.sum([fold(caption) in seen for caption in test.captions]))
    return [f"{count(shared, 'caption')} of test stand in train too, of other pictures; kept"] if shared else []
