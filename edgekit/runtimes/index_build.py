"""Indexes of a folder of pictures, or of texts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgekit.errors import InputError
from edgekit.progress import Progress, Silent, track
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.index import Index
from edgekit.runtimes.preprocess import as_texts
from edgekit.runtimes.vectors import Floats

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
SAVE_EVERY = 2048  # pictures between two savings: what an interruption may cost
_TEXTS = 256


class Skipped(NamedTuple):
    """A file that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Built:
    """``index``; ``skipped``: files that could not be read; how many rows are new, were kept, and were dropped."""

    index: Index
    skipped: list[Skipped]
    added: int
    kept: int
    dropped: int


def build_index(
    folder: str | Path,
    model: DualModel,
    progress: Progress = Silent(),
    out: str | Path | None = None,
    precision: str = "float32",
) -> Built:
    """Index all pictures in ``folder`` and below it, by :data:`SUFFIXES`; names are POSIX paths from ``folder``.

    What cannot be read is skipped and listed. With ``out`` the index is saved there, every :data:`SAVE_EVERY` pictures
    and at the end; if that file is there already, only new and changed files (size, time) are embedded, and rows of
    files that changed or are gone are dropped. So an interrupted run goes on where it was saved.

    Raises ``InputError`` where the folder has no picture that can be read, or ``out`` is an index of another model,
    precision or folder; ``BundleError`` for an ``out`` that is damaged.
    """
    folder, out = Path(folder), None if out is None else Path(out)
    if not folder.is_dir():
        raise InputError(str(folder), found="no folder", expected="a folder of pictures")
    stamps = {name: _stamp(folder / name) for name in _pictures(folder)}
    index = Index.load(out) if out is not None and out.exists() else None
    dropped = 0
    if index is not None and out is not None:
        _check(index, model, precision, stamps, out)
        fresh = [i for i, name in enumerate(index.names) if stamps.get(name) == index.stamps[i]]
        dropped = len(index) - len(fresh)
        index.keep(fresh)
    kept = len(index) if index is not None else 0
    done = set(index.names) if index is not None else set()
    waiting = [name for name in stamps if name not in done]
    skipped: list[Skipped] = []
    saved = kept
    try:
        for names, rows in _embedded(folder, waiting, model, progress, skipped):
            if index is None:
                index = Index(rows.shape[1], model.digest, "image", precision)
            index.add(names, rows, [stamps[name] for name in names])
            if out is not None and len(index) - saved >= SAVE_EVERY:
                index.save(out)
                saved = len(index)
    finally:
        if out is not None and index is not None and (len(index) != saved or dropped):
            index.save(out)
    if index is None:
        found = f"{len(skipped)} that cannot be read" if skipped else "none"
        raise InputError(f"{folder}: pictures", found=found, expected=f"at least one of {', '.join(SUFFIXES)}")
    return Built(index, skipped, len(index) - kept, kept, dropped)


def index_texts(
    texts: Sequence[str], model: DualModel, progress: Progress = Silent(), precision: str = "float32"
) -> Index:
    """Index ``texts``, such as captions, under themselves. Raises ``InputError`` for none, and without a text tower."""
    texts = as_texts(texts)
    if not texts:
        raise InputError("texts", found="none", expected="at least one")
    index: Index | None = None
    starts = range(0, len(texts), _TEXTS)
    for start in track(progress, "index", starts, len(starts)):
        part = texts[start : start + _TEXTS]
        rows = model.embed_texts(part)
        if index is None:
            index = Index(rows.shape[1], model.digest, "text", precision)
        index.add(part, rows)
    assert index is not None
    return index


def _pictures(folder: Path) -> list[str]:
    """POSIX paths of the pictures, sorted; links to folders are not followed."""
    found: list[str] = []
    for root, _, files in os.walk(folder):
        found += [
            (Path(root) / name).relative_to(folder).as_posix() for name in files if name.lower().endswith(SUFFIXES)
        ]
    return sorted(found)


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError:  # gone since, or a link to nowhere: reading it will tell
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _check(index: Index, model: DualModel, precision: str, stamps: dict[str, str], out: Path) -> None:
    index.check_model(model.digest)
    if (index.kind, index.precision) != ("image", precision):
        raise InputError(str(out), found=f"an index of {index.kind}, {index.precision}", expected=f"image, {precision}")
    if len(index) and stamps and not stamps.keys() & set(index.names):
        raise InputError(str(out), found="an index of another folder", expected="another name, or one of this folder")


def _embedded(
    folder: Path, names: list[str], model: DualModel, progress: Progress, skipped: list[Skipped]
) -> Iterator[tuple[list[str], Floats]]:
    """(names, embeddings) of the readable ones, a batch at a time; the others go to ``skipped``."""
    pre, rows = model.images.preprocessor, model.images.rows
    read: list[str] = []
    values: list[Floats] = []
    for name in track(progress, "index", names, len(names)):
        try:
            values.append(pre.transform(pre.decode(folder / name, name=name)))
        except InputError as error:
            skipped.append(Skipped(name, str(error)))
            continue
        read.append(name)
        if len(read) == rows:
            yield read, model.embed_pixels(np.concatenate(values))
            read, values = [], []
    if read:
        yield read, model.embed_pixels(np.concatenate(values))
