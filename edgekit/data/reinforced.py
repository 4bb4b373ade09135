"""Write a reinforced set: run the teachers once over augmentations and captions, and go on after a stop."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import PIL

from edgekit.bundle.tensors import write_tensors
from edgekit.data import augment as augmentation
from edgekit.data.augment import augment
from edgekit.data.pictures import PictureTextSet, fingerprint
from edgekit.data.store import (
    MANIFEST,
    ReinforcedStore,
    ReinforceSettings,
    TeacherRecord,
    manifest_of,
    parse_manifest,
    read_manifest,
    shard_name,
)
from edgekit.errors import DataError, ModelError
from edgekit.progress import Progress, Silent

_BATCH = 64  # pictures or captions given to a teacher at once


class Teacher(Protocol):
    """A dual encoder. ``sha256`` is of its weights: another is another teacher; ``scale``: its factor on cosines."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def scale(self) -> float: ...

    def embed_images(self, batch: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        """uint8 (B, size, size, 3) RGB, not normalised -> (B, D)."""

    def embed_texts(self, texts: list[str]) -> npt.NDArray[np.floating]:
        """Texts -> (len(texts), D)."""


def write_store(
    folder: Path | str,
    data: PictureTextSet,
    teachers: Sequence[Teacher],
    settings: ReinforceSettings | None = None,
    progress: Progress | None = None,
) -> ReinforcedStore:
    """What ``teachers`` give for ``data``, written to ``folder`` and opened.

    A run that was stopped, at any moment, is taken up where it was: a shard is there whole or not at all, and batches
    do not reach over shards, so the files are the same as those of a run that was not stopped. One process at a time
    may write to a folder. Embeddings are stored as the teacher gives them, not made unit length.
    DataError where ``folder`` holds a store of other data, teachers, settings or versions, or cannot be written;
    ModelError where a teacher gives another shape, NaN or infinity, or more than the dtype holds.
    """
    settings, progress = settings or ReinforceSettings(), progress or Silent()
    root = Path(folder).expanduser()
    if not teachers or len({teacher.name for teacher in teachers}) < len(teachers):
        raise DataError("reinforce: teachers", found=[one.name for one in teachers], expected="one or more, each once")
    names = list(data.pictures.names)
    if len(set(names)) < len(names):
        raise DataError("reinforce: pictures", found="two of one name", expected="each name once")
    counts = np.bincount(data.picture_of, minlength=len(data)).tolist()
    digest = fingerprint(data)
    versions = {"augment": augmentation.VERSION, "pillow": PIL.__version__}
    records = _records(root, data, teachers, settings)
    store = ReinforcedStore(root, settings, records, counts, digest)
    try:
        _begin(root, manifest_of(settings, records, counts, digest, versions))
        _write_shards(store, data, teachers, progress)
    except OSError as error:
        raise DataError(
            f"reinforced set {root}", found=error.strerror or str(error), expected="a folder that can be written"
        ) from error
    return ReinforcedStore.open(root)


def _records(
    root: Path, data: PictureTextSet, teachers: Sequence[Teacher], settings: ReinforceSettings
) -> list[TeacherRecord]:
    """The teachers with the width of their embeddings: from the manifest that is there, else by asking them."""
    manifest = read_manifest(root)
    known = [] if manifest is None else parse_manifest(manifest, root)[1]
    held = {(one.name, one.sha256): one.width for one in known}
    records = []
    for teacher in teachers:
        width = held.get((teacher.name, teacher.sha256))
        if width is None:
            width = _checked(teacher.embed_texts(data.captions[:1]), teacher, 1, None, settings).shape[1]
        records.append(TeacherRecord(teacher.name, teacher.sha256, width, teacher.scale))
    return records


def _begin(root: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, or check that the one which is there says the same; sweep what a killed run left."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(".*.part"):
        left.unlink(missing_ok=True)
    found = read_manifest(root)
    if found is None:
        if any(root.glob("shard-*.safetensors")):
            raise DataError(
                f"reinforced set {root}",
                found=f"shards without {MANIFEST}",
                expected="an empty folder",
                fix="Empty it.",
            )
        if any(root.iterdir()):
            raise DataError(f"reinforced set {root}", found="other files", expected="an empty folder, or none")
        _replace(root / MANIFEST, (json_text(manifest) + "\n").encode())
        return
    for field in manifest:
        if found.get(field) != manifest[field]:
            raise DataError(
                f"reinforced set {root}: {field}",
                found=_brief(found.get(field)),
                expected=_brief(manifest[field]),
                fix="Write to another folder, or remove this one.",
            )


def json_text(value: Any) -> str:
    """JSON with sorted keys: the same text for the same value."""
    return json.dumps(value, sort_keys=True)


def _brief(value: Any) -> str:
    text = json_text(value)
    return text if len(text) <= 300 else f"{text[:300]}..."


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, also when the power goes."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _write_shards(
    store: ReinforcedStore, data: PictureTextSet, teachers: Sequence[Teacher], progress: Progress
) -> None:
    handle = progress.start("reinforce", len(data))
    try:
        for number in range(store.shards):
            first = number * store.settings.shard
            pictures = range(first, min(first + store.settings.shard, len(data)))
            if store.problem(number):
                tensors = _shard(store, data, pictures, teachers)
                _replace(store.folder / shard_name(number), write_tensors(tensors))
            progress.advance(handle, len(pictures))
    finally:
        progress.finish(handle)


def _shard(
    store: ReinforcedStore, data: PictureTextSet, pictures: range, teachers: Sequence[Teacher]
) -> dict[str, npt.NDArray[Any]]:
    settings = store.settings
    names = data.pictures.names
    seeds = np.array(
        [[settings.seed_of(names[row], which) for which in range(settings.augmentations)] for row in pictures], np.int64
    )
    tensors: dict[str, npt.NDArray[Any]] = {"seeds": seeds}
    texts = [caption for row in pictures for caption in data.captions_of(row)]
    widths = [teacher.width for teacher in store.teachers]
    images: list[list[npt.NDArray[Any]]] = [[] for _ in teachers]
    step = max(1, _BATCH // settings.augmentations)
    for begin in range(0, len(pictures), step):
        some = pictures[begin : begin + step]
        opened = [data.pictures.open(row) for row in some]
        batch = np.stack(
            [
                augment(picture, int(seed), settings.size, settings.augment)
                for picture, own in zip(opened, seeds[begin : begin + step], strict=True)
                for seed in own
            ]
        )
        for k, teacher in enumerate(teachers):
            given = _checked(teacher.embed_images(batch), teacher, len(batch), widths[k], settings)
            images[k].append(given.reshape(len(some), settings.augmentations, widths[k]))
    for k, teacher in enumerate(teachers):
        tensors[f"image.{k}"] = np.concatenate(images[k])
        tensors[f"text.{k}"] = np.concatenate(
            [
                _checked(teacher.embed_texts(part), teacher, len(part), widths[k], settings)
                for part in (texts[begin : begin + _BATCH] for begin in range(0, len(texts), _BATCH))
            ]
        )
    return tensors


def _checked(
    given: npt.NDArray[np.floating], teacher: Teacher, count: int, width: int | None, settings: ReinforceSettings
) -> npt.NDArray[Any]:
    """Embeddings in the dtype of the store. ModelError for another shape, or numbers that it does not hold."""
    found = np.asarray(given)
    if found.ndim != 2 or len(found) != count or found.shape[1] != (width or found.shape[1]) or not found.shape[1]:
        raise ModelError(f"teacher {teacher.name}", found=f"{found.shape}", expected=f"({count}, {width or 'D'})")
    with np.errstate(over="ignore"):
        stored = found.astype(settings.dtype)
    if not np.isfinite(stored).all():
        finite = bool(np.isfinite(found).all())
        raise ModelError(
            f"teacher {teacher.name}",
            found=f"numbers past {settings.dtype}" if finite else "NaN or infinity",
            expected="finite embeddings",
            fix="Store float32." if finite else None,
        )
    return stored
