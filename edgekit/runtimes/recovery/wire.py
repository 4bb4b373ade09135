"""Frames between a guarded model and its worker: a fixed header, then arrays or a short text. Nothing is unpickled.

Header, little-endian: magic, kind, engine's place, number of the request (uint64), bytes that follow (uint64). Arrays:
their count (uint8), for each dtype (uint8) and dimensions (uint8) and sizes (uint64 each), then their bytes in a row.
"""

from __future__ import annotations

import math
import os
import select
import struct
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgekit.runtimes.recovery.faults import Fault

MAX_BYTES = 1 << 28
MAX_ARRAYS, MAX_DIMENSIONS = 8, 8
CREATE, RUN, RUN_ONE, ARRAYS, TEXT, ERROR = range(1, 7)
_MAGIC = b"EKw1"
_HEADER = struct.Struct("<4sBBQQ")
_DTYPES = [np.dtype(code) for code in ("<f4", "<i8", "<f2", "<i4", "u1", "i1")]
_CODES = {dtype: code for code, dtype in enumerate(_DTYPES)}
_CHUNK = 1 << 20


class Frame(NamedTuple):
    """One message: its kind, the engine's place, the request's number, what it holds."""

    kind: int
    place: int
    number: int
    body: memoryview


def pack(arrays: Sequence[npt.NDArray[Any]]) -> list[bytes | memoryview]:
    """The body that holds ``arrays``. Raises ``Fault`` for a dtype or a shape that the format does not have."""
    head = [struct.pack("<B", len(arrays))]
    data: list[bytes | memoryview] = []
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype not in _CODES or array.ndim > MAX_DIMENSIONS:
            raise Fault("wire", "array", found=str(getattr(array, "dtype", type(array).__name__)))
        head.append(struct.pack(f"<BB{array.ndim}Q", _CODES[array.dtype], array.ndim, *array.shape))
        data.append(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    if len(arrays) > MAX_ARRAYS:
        raise Fault("wire", "arrays", found=len(arrays), expected=f"at most {MAX_ARRAYS}")
    return [b"".join(head), *data]


def unpack(body: memoryview) -> list[npt.NDArray[Any]]:
    """The arrays of a body; they share its memory. Raises ``Fault`` of kind "wire" for anything malformed."""
    try:
        (count,) = struct.unpack_from("<B", body)
        at, found = 1, []
        if count > MAX_ARRAYS:
            raise Fault("wire", "arrays", found=count, expected=f"at most {MAX_ARRAYS}")
        for _ in range(count):
            code, dimensions = struct.unpack_from("<BB", body, at)
            if code >= len(_DTYPES) or dimensions > MAX_DIMENSIONS:
                raise Fault("wire", "array", found=f"dtype {code}, {dimensions} dimensions")
            found.append((_DTYPES[code], struct.unpack_from(f"<{dimensions}Q", body, at + 2)))
            at += 2 + 8 * dimensions
    except struct.error as error:
        raise Fault("wire", "arrays", found=str(error)) from None
    sizes = [dtype.itemsize * math.prod(shape) for dtype, shape in found]
    if at + sum(sizes) != len(body):
        raise Fault("wire", "arrays", found=f"{len(body)} bytes", expected=str(at + sum(sizes))[:40])
    arrays = []
    for (dtype, shape), size in zip(found, sizes, strict=True):
        arrays.append(np.frombuffer(body[at : at + size], dtype).reshape(shape))
        at += size
    return arrays


class Pipe:
    """Frames over two file descriptors. ``until``: a time of ``time.monotonic``, None waits for ever."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(reading, select.POLLIN)
        self._writable.register(writing, select.POLLOUT)
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)

    def send(
        self, kind: int, place: int, number: int, body: Sequence[bytes | memoryview], until: float | None = None
    ) -> None:
        """Write one frame. Raises ``Fault``: "hang" when time is up, "died" when nobody reads any more, "wire"."""
        size = sum(len(part) for part in body)
        if size > MAX_BYTES:
            raise Fault("wire", "a frame", found=f"{size} bytes", expected=f"at most {MAX_BYTES}")
        left = [memoryview(_HEADER.pack(_MAGIC, kind, place, number, size)), *(memoryview(part) for part in body)]
        while left:
            try:
                done = os.writev(self.writing, left)
            except BlockingIOError:
                _wait(self._writable, until)
                continue
            except OSError as error:
                raise Fault("died", "the worker", found=error.strerror) from None
            while left and done >= len(left[0]):
                done -= len(left.pop(0))
            if left:
                left[0] = left[0][done:]

    def receive(self, until: float | None = None) -> Frame:
        """Read one frame. Raises ``Fault``: "hang", "died" at its end, "wire" for what is not a frame."""
        magic, kind, place, number, size = _HEADER.unpack(self._read(_HEADER.size, until))
        if magic != _MAGIC or size > MAX_BYTES:
            raise Fault("wire", "a frame", found=f"{magic!r}, {size} bytes", expected=f"{_MAGIC!r}, up to {MAX_BYTES}")
        return Frame(kind, place, number, self._read(size, until))

    def _read(self, size: int, until: float | None) -> memoryview:
        data = memoryview(bytearray(size))
        at = 0
        while at < size:
            try:
                done = os.readv(self.reading, [data[at : at + _CHUNK]])
            except BlockingIOError:
                _wait(self._readable, until)
                continue
            except OSError as error:
                raise Fault("died", "the worker", found=error.strerror) from None
            if not done:
                raise Fault("died", "the worker", found="the end of its pipe")
            at += done
        return data


def _wait(ready: select.poll, until: float | None) -> None:
    left = None if until is None else 1e3 * (until - time.monotonic())
    if left is not None and left <= 0:
        raise Fault("hang", "the worker", found="no answer in time")
    ready.poll(left)
