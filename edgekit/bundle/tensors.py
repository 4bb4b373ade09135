"""A small reader and writer of the safetensors format (huggingface/safetensors, README "Format") for numpy.

Our own, because a device install holds nothing but numpy, tokenizers and one engine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from edgekit.bundle.manifest import load_json
from edgekit.errors import BundleError, InputError

MAX_BYTES = 1 << 30
MAX_HEADER = 1 << 20
_DTYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1"}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}

Tensors = dict[str, npt.NDArray[Any]]


def write_tensors(tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The file's bytes, the same for the same tensors. Raises ``InputError`` for another dtype than the six."""
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    at = 0
    # The widest types first, so that each tensor is aligned to its own size, as the format asks.
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        kind = _NAMES.get(array.dtype)
        if kind is None or name == "__metadata__":
            raise InputError(f"tensor {name!r}", found=str(array.dtype), expected=", ".join(_DTYPES))
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def read_tensors(source: Path | bytes, where: str = "") -> Tensors:
    """All tensors of a file, or of its bytes. Raises ``BundleError`` naming the file for anything malformed."""
    if isinstance(source, bytes):
        data, where = source, where or "tensors"
    else:
        where = where or source.name
        try:
            with open(source, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise BundleError(f"{where} cannot be read", found=error.strerror) from None
    if not 8 <= len(data) <= MAX_BYTES:
        raise BundleError(where, found=f"{len(data)} bytes", expected=f"8 to {MAX_BYTES}")
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER or 8 + length > len(data):
        raise BundleError(f"{where}: header", found=f"{length} bytes", expected="no more than the file and 1 MiB")
    header = load_json(data[8 : 8 + length], f"{where}: header", MAX_HEADER)
    if not isinstance(header, dict):
        raise BundleError(f"{where}: header", found=type(header).__name__, expected="an object")
    header.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    spans: list[tuple[int, int]] = []
    tensors: Tensors = {}
    for name, entry in header.items():
        kind, shape, begin, end = _entry(entry, f"{where}: {name!r:.60}", len(body))
        spans.append((begin, end))
        tensors[name] = np.frombuffer(body[begin:end], _DTYPES[kind]).reshape(shape).copy()
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise BundleError(where, found=f"a tensor at byte {begin}", expected=f"{at}: no holes, no overlap")
        at = end
    if at != len(body):
        raise BundleError(where, found=f"{len(body)} bytes of data", expected=f"{at}, what the header tells")
    return tensors


def _entry(entry: object, where: str, size: int) -> tuple[str, list[int], int, int]:
    if not isinstance(entry, dict):
        raise BundleError(where, found=repr(entry)[:60], expected="dtype, shape and data_offsets")
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise BundleError(f"{where}: dtype", found=repr(kind)[:60], expected=", ".join(_DTYPES))
    if not _naturals(shape) or len(shape) > 8:
        raise BundleError(f"{where}: shape", found=repr(shape)[:60], expected="up to 8 sizes")
    if not _naturals(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise BundleError(f"{where}: data_offsets", found=repr(offsets)[:60], expected=f"two places up to {size}")
    needed = math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize
    if offsets[1] - offsets[0] != needed:
        raise BundleError(f"{where}: data_offsets", found=f"{offsets[1] - offsets[0]} bytes", expected=f"{needed}"[:40])
    if math.prod(size or 1 for size in shape) >= 1 << 59:  # numpy refuses it, even where another size is 0
        raise BundleError(f"{where}: shape", found=repr(shape)[:60], expected="fewer than 2^59 numbers")
    return kind, shape, offsets[0], offsets[1]


def _naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)
