"""Data sets of the `datasets` library: by id, or a folder that `save_to_disk` wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgekit.data.tables import FORMATS, Table
from edgekit.errors import DataError, MissingDependencyError

SPLITS = {
    "train": ("train",),
    "validation": ("validation", "dev", "val", "valid", "eval"),
    "test": ("test",),
}
_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def is_saved(folder: Path) -> bool:
    """Whether ``folder`` was written by ``save_to_disk``."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()
    )


def is_id(path: str) -> bool:
    """Whether ``path`` names a data set of the hub: ``hf:...``, or ``owner/name`` where no folder ``owner`` is here."""
    if path.startswith("hf:"):
        return True
    owner, _, name = path.partition("/")
    return bool(name and _ID.fullmatch(path)) and not Path(owner).exists() and Path(name).suffix not in FORMATS


def load_saved(folder: Path, limit: int | None) -> dict[str, Table]:
    """The tables in a saved folder: ``{"": table}``, or one for each split."""
    datasets = _library()
    try:
        return _tables(datasets.load_from_disk(str(folder)), str(folder), limit)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"data folder {folder}",
            found=f"{type(error).__name__}: {error}",
            expected="what `datasets.save_to_disk` writes",
            fix="Save it again.",
        ) from error


def load_id(path: str, limit: int | None) -> tuple[dict[str, Table], str]:
    """The tables of ``hf:NAME[:config][:split]``, and the licence that the data set states."""
    name, *rest = path.removeprefix("hf:").split(":")
    config, split = None, None
    known = {word for words in SPLITS.values() for word in words}
    if len(rest) > 2 or not _ID.fullmatch(name):
        raise DataError(f"data {path}", found="another form", expected="hf:NAME[:config][:split]", fix="Write it so.")
    for part in rest:
        if split is None and (part in known or (len(rest) == 2 and part == rest[-1])):
            split = part
        else:
            config = part
    datasets = _library()
    try:
        loaded = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the library raises many kinds for a name, a network or a file that is wrong
        raise DataError(
            f"data {path}",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="a data set that `datasets` can load, in its cache or over the network",
            fix="Check the name and the network, or give a file or a folder saved by `save_to_disk`.",
        ) from error
    first = loaded if split or not isinstance(loaded, dict) else next(iter(loaded.values()))
    return _tables(loaded, path, limit), str(getattr(first.info, "license", "") or "")


def _library() -> Any:
    try:
        import datasets
    except (ImportError, AttributeError) as error:  # AttributeError: an old one beside a new pyarrow
        raise MissingDependencyError(
            "the package `datasets`",
            found=f"{type(error).__name__}: {error}",
            expected="a version that can be imported here",
            fix="pip install 'edgekit[compress]'",
        ) from error
    return datasets


def _tables(loaded: Any, where: str, limit: int | None) -> dict[str, Table]:
    if isinstance(loaded, dict):
        return {split: _table(part, f"{where}:{split}", limit) for split, part in loaded.items()}
    return {"": _table(loaded, where, limit)}


def _table(part: Any, where: str, limit: int | None) -> Table:
    if limit is not None:
        part = part.select(range(min(limit, len(part))))
    if not len(part):
        raise DataError(f"data {where}", found="no rows", expected="at least one")
    names: dict[str, list[str]] = {}
    for column, feature in part.features.items():
        inner = getattr(feature, "feature", feature)  # of a list: what it holds
        if getattr(inner, "names", None):
            names[column] = list(inner.names)
    return Table(where, part.to_dict(), list(range(1, len(part) + 1)), label_names=names)
