"""ONNX: where its tensors' external data lies (onnx/onnx, onnx.proto; docs/ExternalData.md)."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from edgekit.bundle.manifest import check_path
from edgekit.bundle.plain import open_plain, reason
from edgekit.errors import BundleError, EngineError

# Message -> field number -> the message in it. What is not here cannot lead to a tensor.
MESSAGES: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "TensorProto": {13: "StringStringEntryProto"},
}
_ENTRY = "StringStringEntryProto"
_KEY, _VALUE = 1, 2
_LOCATION = b"location"
MAX_FIELDS = 2_000_000  # some seconds; a graph of 10,000 nodes has a tenth
MAX_DEPTH = 64  # of graphs in each other, counted in messages
MAX_ENTRY = 1 << 16  # bytes of one entry about external data


def check(path: Path, name: str, listed: Mapping[str, int]) -> None:
    """Raises ``BundleError`` where the ONNX file ``path`` takes data from a file that is not in ``listed``,
    ``EngineError`` where it cannot be walked.

    ``name``: its path in the bundle; locations are meant from its folder, as engines mean them.
    """
    try:
        with open_plain(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for place in _Walk(data, name).locations():
                _inside(place, name, listed)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise EngineError(f"{name} cannot be read", found=reason(error), expected="an ONNX model") from None


def _inside(place: bytes, name: str, listed: Mapping[str, int]) -> None:
    where = f"{name}: external data"
    try:
        text = place.decode("utf-8")
    except UnicodeDecodeError:
        raise BundleError(where, found=repr(place)[:80], expected="the path of a file of the bundle") from None
    check_path(text, where)
    target = (PurePosixPath(name).parent / text).as_posix()
    if target not in listed:
        raise BundleError(where, found=f"{target!r:.80}", expected="a file that the manifest lists")


class _Walk:
    """One pass over a file in the wire format of Protocol Buffers, into the messages of :data:`MESSAGES` alone."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self._data, self._name, self._left = data, name, MAX_FIELDS

    def locations(self) -> Iterator[bytes]:
        """The value of every entry whose key is ``location``."""
        waiting = [("ModelProto", 0, len(self._data), 0)]
        while waiting:
            message, start, end, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise self._bad(f"{depth} messages in each other at byte {start}", f"at most {MAX_DEPTH}")
            if message == _ENTRY:
                yield from self._entry(start, end)
                continue
            inner = MESSAGES[message]
            for number, first, last in self._fields(start, end):
                if number in inner:
                    waiting.append((inner[number], first, last, depth + 1))

    def _entry(self, start: int, end: int) -> list[bytes]:
        """The values in one entry if any key in it is ``location``: of a field given twice, a parser takes the last."""
        if end - start > MAX_ENTRY:
            raise self._bad(f"{end - start} bytes about external data", f"at most {MAX_ENTRY}")
        fields = [(number, self._data[first:last]) for number, first, last in self._fields(start, end)]
        if (_KEY, _LOCATION) not in fields:
            return []
        return [value for number, value in fields if number == _VALUE]

    def _fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of each field with a length between ``at`` and ``end``; the others are stepped over."""
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise self._bad(f"more than {MAX_FIELDS} fields", "an ONNX model")
            tag, at = self._varint(at, end, 1 << 32)
            kind, size = tag & 7, 0
            if kind == 2:
                size, at = self._varint(at, end, 1 << 31)
            elif kind == 0:
                _, at = self._varint(at, end, 1 << 64)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise self._bad(f"wire type {kind} at byte {at}", "an ONNX model")
            if size > end - at:
                raise self._bad(f"a field that ends behind byte {end}", "an ONNX model")
            if kind == 2:
                yield tag >> 3, at, at + size
            at += size

    def _varint(self, at: int, end: int, limit: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if value >= limit:
                    break
                return value, at
        raise self._bad(f"no number at byte {at}", "an ONNX model")

    def _bad(self, found: str, expected: str) -> EngineError:
        return EngineError(self._name, found=found, expected=expected)
