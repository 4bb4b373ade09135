"""Golden vectors: texts or pictures with captions, the token ids and the outputs that they must give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.bundle.decode import decode
from edgekit.bundle.records import Record
from edgekit.bundle.tensors import read_tensors, write_tensors
from edgekit.errors import BundleError

NAME = "golden.safetensors"
# A load runs some of them, so they must end.
MAX_TEXTS = 4096
MAX_CHARACTERS = 1 << 20
_PICTURE = "picture."  # and its number
Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tolerance(Record):
    """How far outputs of ``file`` may be from the golden ones on instruction set ``isa`` ("*": any other).

    ``max_abs``: largest absolute difference of a number; ``min_cosine``: least cosine of one text's (or word's) output.
    ``basis``: "measured" on that instruction set when the bundle was made, or "stated".
    """

    file: str
    isa: str
    max_abs: float
    min_cosine: float
    basis: str


@dataclass(frozen=True)
class Golden:
    """``ids``: windows of token ids a text; ``outputs``: by model file, one float32 array a text.

    Such an array is (C,), (D,) or, for tag, (words, C). ``tolerances``: see :meth:`tolerance`. Task clip: ``texts`` are
    captions, ``pictures`` uint8 (H, W, 3), one a caption, and each tower's file has outputs of its own, (D,).
    """

    texts: list[str]
    ids: list[list[list[int]]]
    outputs: dict[str, list[Floats]]
    tolerances: list[Tolerance] = field(default_factory=list)
    pictures: list[Pixels] = field(default_factory=list)

    @property
    def examples(self) -> list[Any]:
        """What one inference each is given: the texts, or (picture, caption)."""
        return list(zip(self.pictures, self.texts, strict=True)) if self.pictures else list(self.texts)

    def tolerance(self, file: str, isa: str) -> Tolerance:
        """The one measured on ``isa``, else the stated one. Raises ``BundleError`` when the manifest has neither."""
        for wanted in (isa, "*"):
            for tolerance in self.tolerances:
                if tolerance.file == file and tolerance.isa == wanted:
                    return tolerance
        raise BundleError("manifest.json: golden", found=f"no tolerance for {file} on {isa}", expected="one for isa *")

    def to_manifest(self) -> dict[str, Any]:
        """What ``Manifest.golden`` holds."""
        return {"file": NAME, "texts": self.texts, "tolerances": [item.to_dict() for item in self.tolerances]}

    def to_bytes(self) -> bytes:
        """What golden.safetensors holds (docs/bundle.md)."""
        windows = [window for text in self.ids for window in text]
        tensors: dict[str, npt.NDArray[Any]] = {
            "ids": np.array([token for window in windows for token in window], np.int32),
            "ids.lengths": np.array([len(window) for window in windows], np.int32),
            "ids.windows": np.array([len(text) for text in self.ids], np.int32),
        }
        for file, outputs in self.outputs.items():
            rows = [np.atleast_2d(output) for output in outputs]
            tensors[f"outputs.{file}"] = np.concatenate(rows).astype(np.float32)
            tensors[f"rows.{file}"] = np.array([len(row) for row in rows], np.int32)
        tensors |= {f"{_PICTURE}{i}": picture for i, picture in enumerate(self.pictures)}
        return write_tensors(tensors)


def read(manifest_golden: dict[str, Any], data: bytes, task: str, where: str = NAME) -> Golden:
    """Golden vectors from ``Manifest.golden`` and the file's bytes. Raises ``BundleError`` naming what is wrong."""
    texts = manifest_golden.get("texts")
    listed = manifest_golden.get("tolerances")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BundleError("manifest.json: golden: texts", found=repr(texts)[:60], expected="a list of texts")
    if len(texts) > MAX_TEXTS or sum(map(len, texts)) > MAX_CHARACTERS:
        size = f"{len(texts)} of {sum(map(len, texts))} characters"
        expected = f"at most {MAX_TEXTS} of {MAX_CHARACTERS} together"
        raise BundleError("manifest.json: golden: texts", found=size, expected=expected)
    if not isinstance(listed, list):
        raise BundleError("manifest.json: golden: tolerances", found=repr(listed)[:60], expected="a list")
    tolerances = [decode(Tolerance, item, f"manifest.json: golden: tolerances[{i}]") for i, item in enumerate(listed)]
    tensors = read_tensors(data, where)
    windows = _split(tensors, "ids", "ids.lengths", np.int32, where)
    texts_windows = _split(
        {"w": np.arange(len(windows), dtype=np.int32), **tensors}, "w", "ids.windows", np.int32, where
    )
    if len(texts_windows) != len(texts):
        raise BundleError(f"{where}: ids.windows", found=f"{len(texts_windows)} texts", expected=f"{len(texts)}")
    ids = [[windows[int(i)].tolist() for i in numbers] for numbers in texts_windows]
    outputs: dict[str, list[Floats]] = {}
    for name in tensors:
        if name.startswith("outputs."):
            file = name.removeprefix("outputs.")
            rows: list[Floats] = _split(tensors, name, f"rows.{file}", np.float32, where)
            if len(rows) != len(texts) or (task != "tag" and any(len(row) != 1 for row in rows)):
                raise BundleError(f"{where}: rows.{file}", found=f"{len(rows)} texts", expected=f"{len(texts)}")
            if not all(np.isfinite(row).all() for row in rows):  # next to NaN every answer would pass
                raise BundleError(f"{where}: {name}", found="NaN or infinite numbers", expected="finite ones")
            outputs[file] = rows if task == "tag" else [row[0] for row in rows]
    pictures = [_picture(tensors, f"{_PICTURE}{i}", where) for i in range(len(texts))] if task == "clip" else []
    return Golden(texts, ids, outputs, tolerances, pictures)


def _picture(tensors: dict[str, Any], name: str, where: str) -> Pixels:
    found = tensors.get(name)
    if found is None or found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3 or not found.size:
        shape = "no such tensor" if found is None else f"{found.dtype} {found.shape}"
        raise BundleError(f"{where}: {name}", found=shape, expected="uint8 (H, W, 3)")
    picture: Pixels = found
    return picture


def _split(tensors: dict[str, Any], name: str, lengths: str, dtype: type, where: str) -> list[npt.NDArray[Any]]:
    """``tensors[name]`` cut into pieces of ``tensors[lengths]`` rows."""
    for needed, kind in ((name, np.dtype(dtype)), (lengths, np.dtype(np.int32))):
        if needed not in tensors or tensors[needed].dtype != kind:
            raise BundleError(f"{where}: {needed}", found="no such tensor", expected=f"{kind}")
    whole, sizes = tensors[name], tensors[lengths]
    dimensions = 2 if dtype is np.float32 else 1
    if sizes.ndim != 1 or whole.ndim != dimensions or (sizes < 0).any() or int(sizes.sum(dtype=np.int64)) != len(whole):
        raise BundleError(
            f"{where}: {lengths}", found=f"sizes for another tensor than {name}", expected=f"{len(whole)}"
        )
    return np.split(whole, np.cumsum(sizes, dtype=np.int64)[:-1]) if len(sizes) else []
