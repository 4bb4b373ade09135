"""A reinforced set on disk, read back: what its manifest says, and any example of it without loading the rest.

Vasu et al. 2024, "MobileCLIP", section 4 (dataset reinforcement): teachers run once, over several augmentations of each
picture; training reads their embeddings and redoes the augmentation from its seed.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.data.augment import DEFAULT, AugmentSettings
from edgekit.data.draws import seed_of
from edgekit.errors import DataError

MANIFEST = "manifest.json"
SCHEMA = 1
_OPEN_SHARDS = 64


@dataclass(frozen=True)
class ReinforceSettings:
    """``augmentations`` of each picture at ``size`` pixels, drawn from ``seed``; ``shard`` pictures a file.

    ``dtype`` of the stored embeddings: float16 halves the file and moves a unit vector's cosines by under 0.001.
    """

    augmentations: int = 10
    size: int = 224
    seed: int = 0
    dtype: str = "float16"
    shard: int = 256
    augment: AugmentSettings = DEFAULT

    def __post_init__(self) -> None:
        for name, most in (("augmentations", 1000), ("size", 4096), ("shard", 1_000_000)):
            if not 1 <= getattr(self, name) <= most:
                raise DataError(f"reinforce: {name}", found=getattr(self, name), expected=f"1 to {most:,}")
        if self.dtype not in ("float16", "float32"):
            raise DataError("reinforce: dtype", found=self.dtype, expected="float16 or float32")

    def seed_of(self, name: str, augmentation: int) -> int:
        """The seed of one augmentation of the picture called ``name``; fits an int64."""
        return seed_of(self.seed, "reinforce", name, augmentation)


@dataclass(frozen=True)
class TeacherRecord:
    """A teacher whose embeddings are stored; ``sha256`` is of its weights, ``scale`` its factor on cosines."""

    name: str
    sha256: str
    width: int
    scale: float


@dataclass(frozen=True)
class Example:
    """One augmentation of one picture: ``images[k]`` (D_k,) float32 is what teacher k gave for it."""

    seed: int
    images: tuple[npt.NDArray[np.float32], ...]


def shard_name(number: int) -> str:
    """The file of shard ``number``."""
    return f"shard-{number:05d}.safetensors"


class ReinforcedStore:
    """Random access to a written store; shards are memory-mapped, and only what is asked for is read."""

    def __init__(
        self, folder: Path, settings: ReinforceSettings, teachers: list[TeacherRecord], counts: list[int], data: str
    ) -> None:
        self.folder, self.settings, self.teachers, self.data = folder, settings, teachers, data
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)  # captions before each picture
        self._open: OrderedDict[int, Any] = OrderedDict()

    @classmethod
    def open(
        cls, folder: Path | str, *, data: str | None = None, teachers: dict[str, str] | None = None
    ) -> ReinforcedStore:
        """The store in ``folder``. ``data``: the fingerprint of the set that it must be of; ``teachers``: name ->
        sha256 of those that it must hold, in order. DataError where it is not there, unfinished, damaged, or another.
        """
        root = Path(folder).expanduser()
        manifest = read_manifest(root)
        if manifest is None:
            raise DataError(f"reinforced set {root}", found=f"no {MANIFEST}", expected="a folder that reinforce wrote")
        store = cls(root, *parse_manifest(manifest, root))
        if data is not None and data != store.data:
            raise DataError(
                f"reinforced set {root}",
                found=f"embeddings of the data {store.data[:12]}...",
                expected=f"of {data[:12]}...",
                fix="Reinforce this data set, into a folder of its own.",
            )
        held = {one.name: one.sha256 for one in store.teachers}
        if teachers is not None and list(teachers.items()) != list(held.items()):
            raise DataError(f"reinforced set {root}", found=f"teachers {_said(held)}", expected=_said(teachers))
        for number in range(store.shards):
            problem = store.problem(number)
            if problem:
                raise DataError(
                    f"reinforced set {root}, {shard_name(number)}",
                    found=problem,
                    expected="a whole shard",
                    fix="Run reinforce again: it goes on with what is missing.",
                )
        return store

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def augmentations(self) -> int:
        """How many there are of each picture."""
        return self.settings.augmentations

    @property
    def caption_count(self) -> int:
        """How many captions all pictures have together."""
        return int(self._starts[-1])

    @property
    def shards(self) -> int:
        """How many files there are."""
        return -(-len(self) // self.settings.shard)

    def example(self, picture: int, augmentation: int) -> Example:
        """Seed and image embeddings of one augmentation of one picture. IndexError past the ends."""
        row = self._row(picture)
        if not 0 <= augmentation < self.augmentations:
            raise IndexError(f"augmentation {augmentation} of {self.augmentations}")
        tensors = self._shard(picture)
        images = tuple(
            tensors.get_slice(f"image.{k}")[row, augmentation].astype(np.float32) for k in range(len(self.teachers))
        )
        return Example(int(tensors.get_slice("seeds")[row, augmentation]), images)

    def examples(
        self, pictures: Sequence[int], augmentations: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], tuple[npt.NDArray[np.float32], ...]]:
        """A batch: seeds (B,), and one (B, D_k) float32 a teacher."""
        found = [self.example(picture, which) for picture, which in zip(pictures, augmentations, strict=True)]
        seeds = np.array([one.seed for one in found], np.int64)
        return seeds, tuple(np.stack([one.images[k] for one in found]) for k in range(len(self.teachers)))

    def captions(self, picture: int) -> tuple[npt.NDArray[np.float32], ...]:
        """The embeddings of a picture's captions, in their order: one (captions, D_k) float32 a teacher."""
        row = self._row(picture)
        begin = self._starts[picture - row]
        first, last = int(self._starts[picture] - begin), int(self._starts[picture + 1] - begin)
        tensors = self._shard(picture)
        return tuple(tensors.get_slice(f"text.{k}")[first:last].astype(np.float32) for k in range(len(self.teachers)))

    def problem(self, number: int) -> str:
        """What is wrong with shard ``number``, or "": its header and length are read, not its content."""
        from safetensors import SafetensorError, safe_open

        path = self.folder / shard_name(number)
        if not path.is_file():
            return "no such file"
        expected = self.shapes(number)
        try:
            with safe_open(str(path), framework="numpy") as tensors:
                slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
                found = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
        except (SafetensorError, OSError) as error:
            return f"{type(error).__name__}: {error}"
        return "" if found == expected else f"tensors {found}, not {expected}"

    def shapes(self, number: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The tensors of shard ``number``: dtype as safetensors calls it, and shape."""
        first = number * self.settings.shard
        last = min(first + self.settings.shard, len(self))
        kind = {"float16": "F16", "float32": "F32"}[self.settings.dtype]
        captions = int(self._starts[last] - self._starts[first])
        expected: dict[str, tuple[str, tuple[int, ...]]] = {"seeds": ("I64", (last - first, self.augmentations))}
        for k, teacher in enumerate(self.teachers):
            expected[f"image.{k}"] = (kind, (last - first, self.augmentations, teacher.width))
            expected[f"text.{k}"] = (kind, (captions, teacher.width))
        return expected

    def __getstate__(self) -> dict[str, Any]:
        """Workers of a loader open the shards themselves."""
        return {**self.__dict__, "_open": OrderedDict()}

    def _row(self, picture: int) -> int:
        if not 0 <= picture < len(self):
            raise IndexError(f"picture {picture} of {len(self)}")
        return picture % self.settings.shard

    def _shard(self, picture: int) -> Any:
        from safetensors import safe_open

        number = picture // self.settings.shard
        if number not in self._open:
            self._open[number] = safe_open(str(self.folder / shard_name(number)), framework="numpy")
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]


def _said(teachers: dict[str, str]) -> str:
    return ", ".join(f"{name} ({sha256[:12]})" for name, sha256 in teachers.items())


def manifest_of(
    settings: ReinforceSettings, teachers: list[TeacherRecord], counts: list[int], data: str, versions: dict[str, Any]
) -> dict[str, Any]:
    """What a store's manifest holds: all that its bytes follow from."""
    return {
        "schema_version": SCHEMA,
        "data": data,
        "teachers": [asdict(teacher) for teacher in teachers],
        "settings": json.loads(json.dumps(asdict(settings))),
        "versions": versions,
        "captions": counts,
    }


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of ``folder``; None where there is none. DataError where it is damaged."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(str(path), found=f"no JSON ({error})", expected="the manifest that reinforce wrote") from error
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA:
        found = manifest.get("schema_version") if isinstance(manifest, dict) else type(manifest).__name__
        raise DataError(str(path), found=f"schema_version {found}", expected=str(SCHEMA), fix="Reinforce again.")
    return manifest


def parse_manifest(
    manifest: dict[str, Any], folder: Path
) -> tuple[ReinforceSettings, list[TeacherRecord], list[int], str]:
    """Settings, teachers, captions of each picture and data fingerprint; DataError where one is missing or wrong."""
    try:
        given = dict(manifest["settings"])
        crop = dict(given.pop("augment"))
        crop = {key: tuple(value) if isinstance(value, list) else value for key, value in crop.items()}
        settings = ReinforceSettings(**given, augment=AugmentSettings(**crop))
        teachers = [TeacherRecord(**one) for one in manifest["teachers"]]
        counts = [int(one) for one in manifest["captions"]]
        data = str(manifest["data"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(str(folder / MANIFEST), found=repr(error), expected="what reinforce writes") from error
    if not teachers or not counts or min(counts) < 0:
        raise DataError(str(folder / MANIFEST), found="no teachers or pictures", expected="some of each")
    return settings, teachers, counts, data
