"""Embeddings at rest: unit length, and a file that holds them beside a few words about them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.bundle.manifest import load_json
from edgekit.bundle.tensors import MAX_BYTES, read_tensors, write_tensors
from edgekit.errors import BundleError, EngineError, InputError

Floats = npt.NDArray[np.float32]
_ABOUT = "about"  # the tensor with the words: UTF-8 JSON as bytes


def unit(rows: npt.NDArray[Any], where: str = "embeddings") -> Floats:
    """(n, D) with each row at length 1, float32; a row of zeros stays. Raises ``EngineError`` for NaN or infinity."""
    if rows.ndim != 2:
        raise EngineError(where, found=f"shape {rows.shape}", expected="(n, D)")
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))[:, None]
    if not np.isfinite(lengths).all():
        raise EngineError(where, found="NaN or infinite values", expected="finite ones")
    return (rows / np.maximum(lengths, 1e-12)).astype(np.float32)


def save(path: Path, tensors: dict[str, npt.NDArray[Any]], about: dict[str, Any]) -> None:
    """Write a safetensors file, whole or not at all. Raises ``InputError`` where it would be too large to read back."""
    words = np.frombuffer(json.dumps(about).encode(), np.uint8)
    size = sum(array.nbytes for array in tensors.values()) + words.nbytes
    if size > MAX_BYTES - (1 << 20):
        raise InputError(
            path.name, found=f"{size} bytes", expected=f"less than {MAX_BYTES}", fix="Split it, or use int8."
        )
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(write_tensors({**tensors, _ABOUT: words}))
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(str(path), found=error.strerror, expected="a file that can be written") from None


def load(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Tensors and words of such a file. Raises ``BundleError`` naming what is wrong."""
    tensors = read_tensors(path)
    words = tensors.pop(_ABOUT, None)
    if words is None or words.dtype != np.uint8 or words.ndim != 1:
        raise BundleError(f"{path.name}: {_ABOUT}", found="no such tensor", expected="JSON as bytes (U8)")
    about = load_json(words.tobytes(), f"{path.name}: {_ABOUT}", MAX_BYTES)
    if not isinstance(about, dict):
        raise BundleError(f"{path.name}: {_ABOUT}", found=type(about).__name__, expected="an object")
    return tensors, about


def strings(about: dict[str, Any], key: str, where: str, count: int | None = None) -> list[str]:
    """``about[key]``, a list of ``count`` texts. Raises ``BundleError`` for anything else."""
    found = about.get(key)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise BundleError(f"{where}: {key}", found=repr(found)[:60], expected="a list of texts")
    if count is not None and len(found) != count:
        raise BundleError(f"{where}: {key}", found=f"{len(found)} texts", expected=f"{count}, one a row")
    return found
