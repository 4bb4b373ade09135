"""Embeddings that were computed elsewhere: a teacher that need not be run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.data.tables import count, missing, short
from edgekit.errors import DataError

NAMES = ("names", "filenames", "file_names", "paths", "files", "ids", "keys", "texts", "captions")
EMBEDDINGS = ("embeddings", "image_embeddings", "text_embeddings", "features", "embeds", "vectors")
MODEL = ("model", "model_name", "teacher")
_UNIT = 1e-2  # a length this near 1 is 1: float16 rounds each number by up to 5e-4 of it
_ROWS = 65_536  # rows checked at once


@dataclass(frozen=True)
class CachedEmbeddings:
    """``embeddings`` (n, D) float32, perhaps memory-mapped, of the things that ``names`` (n, each once) name."""

    names: list[str]
    embeddings: npt.NDArray[np.float32]
    model: str  # as the file or the caller has it; "" where neither tells
    unit: bool  # whether every row has length 1
    rules: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    def of(self, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """The embeddings of ``names``, in that order, (k, D). DataError names those that are not there."""
        index = {name: row for row, name in enumerate(self.names)}
        absent = [name for name in names if name not in index]
        if absent:
            raise DataError(
                "cached embeddings",
                found=f"none of {count(len(absent), 'name')}: {', '.join(absent[:3])}{' ...' if absent[3:] else ''}",
                expected="one of every name",
                fix="Leave those out, or compute theirs.",
            )
        return np.asarray(self.embeddings[[index[name] for name in names]])


def read_embeddings(
    path: Path | str, *, names: Sequence[str] | Path | str | None = None, model: str | None = None
) -> CachedEmbeddings:
    """Embeddings from an npz, npy or safetensors file, or a folder with one such.

    npz: an array of names and one of embeddings under usual keys, and perhaps the model's name; no pickles.
    safetensors: a tensor ``embeddings`` (or the only one with two axes), names and model in the metadata (a JSON list,
    a text). npy, or no names inside: ``names`` gives them, or the JSON file of a list, else the one JSON file beside it
    that holds as many. npy of float32 is memory-mapped. ``model`` overrides what the file says.
    DataError for a missing or damaged file, another dtype or shape, NaN or infinity, a row of zeros, names that are
    not as many or not unique.
    """
    file = _file(Path(path).expanduser())
    try:
        found, inside, called = _READERS[file.suffix.lower()](file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"embeddings {file}", found=str(error) or type(error).__name__, expected=f"a {file.suffix} file, no pickles"
        ) from error
    if found.ndim != 2 or not found.size or found.dtype.kind != "f":
        raise DataError(f"embeddings {file}", found=f"{found.dtype} {found.shape}", expected="floats (n, D)")
    rules: list[str] = []
    listed = _names(names, file, inside, len(found), rules)
    if found.dtype != np.float32:
        rules.append(f"{short(str(file))}: {found.dtype} read as float32")
        with np.errstate(over="ignore"):
            found = found.astype(np.float32)
    unit = _check(found, file, listed)
    rules.append(f"{short(str(file))}: {len(found):,} rows of {found.shape[1]}, {'' if unit else 'not '}of length 1")
    return CachedEmbeddings(listed, found, called if model is None else model, unit, rules)


_Found = tuple[npt.NDArray[Any], list[str] | None, str]


def _npz(file: Path) -> _Found:
    with np.load(file, allow_pickle=False) as archive:
        keys = list(archive.files)
        matrices = [key for key in keys if archive[key].ndim == 2 and archive[key].dtype.kind == "f"]
        key = _usual(keys, EMBEDDINGS) or (matrices[0] if len(matrices) == 1 else None)
        if key is None:
            raise ValueError(f"keys {', '.join(keys)}, none of them {', '.join(EMBEDDINGS)}")
        names, model = _usual(keys, NAMES), _usual(keys, MODEL)
        listed = None if names is None else [str(name) for name in archive[names].ravel().tolist()]
        return archive[key], listed, "" if model is None else str(archive[model].ravel()[0])


def _npy(file: Path) -> _Found:
    return np.load(file, mmap_mode="r", allow_pickle=False), None, ""


def _safetensors(file: Path) -> _Found:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy") as tensors:
            keys = list(tensors.keys())
            metadata: Mapping[str, str] = tensors.metadata() or {}
            matrices = [key for key in keys if len(tensors.get_slice(key).get_shape()) == 2]
            key = _usual(keys, EMBEDDINGS) or (matrices[0] if len(matrices) == 1 else None)
            if key is None:
                raise ValueError(f"tensors {', '.join(keys)}, none of them {', '.join(EMBEDDINGS)}")
            found = tensors.get_tensor(key)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    except (TypeError, AttributeError) as error:  # a dtype that numpy has not, such as bfloat16
        raise ValueError(f"a dtype that numpy cannot hold ({error})") from error
    written, model = _usual(list(metadata), NAMES), _usual(list(metadata), MODEL)
    names = None if written is None else json.loads(metadata[written])
    return found, names, "" if model is None else metadata[model]


_READERS = {".npz": _npz, ".npy": _npy, ".safetensors": _safetensors}


def _file(path: Path) -> Path:
    """``path``, or the one file of embeddings in it."""
    if path.is_dir():
        inside = sorted(item for item in path.iterdir() if item.suffix.lower() in _READERS)
        if len(inside) != 1:
            raise DataError(
                f"embeddings {path}",
                found=", ".join(item.name for item in inside) or "no such file in it",
                expected="one npz, npy or safetensors file",
                fix="Name the file itself.",
            )
        return inside[0]
    if not path.is_file():
        raise missing(path)
    if path.suffix.lower() not in _READERS:
        raise DataError(f"embeddings {path}", found=f"suffix `{path.suffix}`", expected=", ".join(_READERS))
    return path


def _usual(keys: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in keys), None)


def _names(
    given: Sequence[str] | Path | str | None, file: Path, inside: list[str] | None, rows: int, rules: list[str]
) -> list[str]:
    """The names given, else those in the file, else those of the one JSON list beside it that is as long."""
    if isinstance(given, (Path, str)):
        listed: Any = _json_list(Path(given).expanduser())
        if listed is None:
            raise DataError(f"names of embeddings {given}", found="another file", expected="a JSON list of texts")
    elif given is not None:
        listed = list(given)
    elif inside is not None:
        listed = inside
    else:
        beside = {item: _json_list(item) for item in sorted(file.parent.glob("*.json"))}
        fitting = [item for item, names in beside.items() if names is not None and len(names) == rows]
        if len(fitting) != 1:
            raise DataError(
                f"embeddings {file}",
                found=f"no names in it, and {len(fitting)} JSON lists of {rows:,} names beside it",
                expected="one",
                fix="Give `names`: a list, or a JSON file of one.",
            )
        listed = beside[fitting[0]]
        rules.append(f"{short(str(file))}: names from {fitting[0].name} beside it")
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise DataError(f"names of embeddings {file}", found=type(listed).__name__, expected="a list of texts")
    if len(listed) != rows:
        raise DataError(f"names of embeddings {file}", found=f"{len(listed):,} names", expected=f"{rows:,}, one a row")
    seen: set[str] = set()
    for name in listed:
        if name in seen:
            raise DataError(f"names of embeddings {file}", found=f"`{name}` twice", expected="each name once")
        seen.add(name)
    return listed


def _json_list(path: Path) -> list[str] | None:
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(name, str) for name in found) else None


def _check(found: npt.NDArray[np.float32], file: Path, names: list[str]) -> bool:
    """Whether all rows have length 1; DataError for a row that is not finite, or zero."""
    unit = True
    for begin in range(0, len(found), _ROWS):
        lengths = np.linalg.norm(np.asarray(found[begin : begin + _ROWS], np.float64), axis=1)
        bad = ~np.isfinite(lengths) | (lengths == 0)
        if bad.any():
            row = begin + int(bad.argmax())
            what = "only zeros" if lengths[row - begin] == 0 else "NaN or infinity"
            raise DataError(f"embeddings {file}, row {row} (`{names[row]}`)", found=what, expected="finite numbers")
        unit = unit and bool((abs(lengths - 1) < _UNIT).all())
    return unit
