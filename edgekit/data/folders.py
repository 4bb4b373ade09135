"""Pictures with classes: a folder a class, as ImageNet is laid out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.data.checked import read_all
from edgekit.data.hub import SPLITS
from edgekit.data.pictures import SUFFIXES, EncodedPictures, PictureSet
from edgekit.data.sets import natural
from edgekit.data.tables import count, missing, short
from edgekit.errors import DataError


def read_folder(
    path: Path | str,
    *,
    names: Mapping[str, str] | Path | str | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
) -> PictureSet:
    """The pictures under ``path``, each in the class of the folder that it lies in (at any depth below it).

    ``names`` maps folders to the names of classes (a mapping, or a file: JSON, or lines of folder and name); folders
    that it lacks keep their own. ``classes`` are the names to number by, as another part of the set has them; without
    it, the names that are there, in natural order. ``limit`` takes the first pictures of each class, by name.
    A picture is called ``folder/file``. ``rules`` of the result states what was left out. DataError for a missing or
    empty folder, one class only, a class that ``classes`` lacks, and where over 1 % of the pictures cannot be read.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise missing(root)
    folders = sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not folders:
        raise DataError(
            f"data folder {root}",
            found="no folders in it",
            expected="a folder a class, with pictures",
            fix="Name the folder that holds the folders of the classes.",
        )
    mapping = _mapping(names)
    rules: list[str] = []
    called: list[str] = []
    files: list[Path] = []
    others = 0
    for folder in folders:
        inside = sorted(item for item in folder.rglob("*") if item.is_file() and not item.name.startswith("."))
        pictures = [item for item in inside if item.suffix.lower() in SUFFIXES]
        others += len(inside) - len(pictures)
        files += pictures[:limit]
        called += [mapping.get(folder.name, folder.name)] * len(pictures[:limit])
        if not pictures:
            rules.append(f"{short(str(folder))}: no pictures, left out")
    if others:
        rules.append(f"{short(str(root))}: {count(others, 'file')} left out, not pictures by suffix")
    found = [str(file.relative_to(root).as_posix()) for file in files]
    opened, kept, left_out = read_all(found, files, f"data folder {root}", shown=short(str(root)))
    rules += left_out
    called = [called[row] for row in kept]
    listed = natural(called) if classes is None else list(classes)
    if len(listed) < 2:
        raise DataError(
            f"data folder {root}",
            found=f"one class only, `{listed[0]}`",
            expected="at least two folders with pictures",
            fix="Name the folder above it.",
        )
    index = {name: row for row, name in enumerate(listed)}
    unknown = next((name for name in called if name not in index), None)
    if unknown is not None:
        raise DataError(
            f"data folder {root}",
            found=f"class `{unknown}`, which was not seen in training",
            expected=f"one of {', '.join(listed[:10])}{' ...' if len(listed) > 10 else ''}",
            fix="Add it to the training data, or take the folder out.",
        )
    return PictureSet(opened, np.array([index[name] for name in called], np.int64), listed, rules)


def read_pictures(path: Path | str) -> EncodedPictures:
    """All pictures under ``path``, at any depth, by name; classes and captions do not matter.

    DataError for a missing folder, one without pictures, and where over 1 % of them cannot be read.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise missing(root)
    files = sorted(item for item in root.rglob("*") if item.suffix.lower() in SUFFIXES and item.is_file())
    names = [file.relative_to(root).as_posix() for file in files]
    return read_all(names, files, f"data folder {root}", shown=short(str(root)))[0]


def _mapping(names: Mapping[str, str] | Path | str | None) -> Mapping[str, str]:
    """Folder -> name. A file is JSON (an object) or lines such as ``n01440764 tench``."""
    if names is None:
        return {}
    if isinstance(names, Mapping):
        return names
    path = Path(names).expanduser()
    expected = 'a JSON object {"folder": "name"}, or lines of a folder and its name'
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"names of classes {path}", found=str(error), expected=expected) from error
    if path.suffix.lower() == ".json":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"names of classes {path}", found=f"no JSON ({error})", expected=expected) from error
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
            raise DataError(f"names of classes {path}", found=type(found).__name__, expected=expected)
        return found
    result: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        parts = line.split(None, 1)
        if len(parts) == 2:
            result[parts[0]] = parts[1].strip()
        elif parts:
            raise DataError(f"names of classes {path}, line {number}", found=f"`{line.strip()}`", expected=expected)
    return result


def part_folders(root: Path) -> dict[str, Path]:
    """The folders of ``root`` that are parts: train, and test or validation where they are there; {} without train."""
    found = {item.name.lower(): item for item in root.iterdir() if item.is_dir()} if root.is_dir() else {}
    parts = {part: found[name] for part, usual in SPLITS.items() for name in reversed(usual) if name in found}
    return parts if "train" in parts else {}
