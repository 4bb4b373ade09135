"""TFLite: a FlatBuffer (google/flatbuffers, docs/source/internals) whose model has no buffers in other files.

Field numbers are those of schema.fbs (google-ai-edge/LiteRT, tflite/converter/schema).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

from edgekit.bundle.plain import open_plain, reason
from edgekit.errors import BundleError, EngineError

_IDENTIFIER = b"TFL3"
_BUFFERS, _GROUPS, _EXTERNAL = 4, 8, 9  # fields of Model: buffers, external_buffer_groups, external_buffers
_OFFSET, _SIZE = 1, 2  # of Buffer: data that lies behind the FlatBuffer, in the same file
MAX_BUFFERS = 1 << 20


def check(path: Path, name: str, listed: Mapping[str, int]) -> None:
    """Raises ``BundleError`` where the TFLite file ``path`` takes buffers from other files, or from beyond its end,
    ``EngineError`` where it is none.
    """
    del listed  # no other file is allowed, in the bundle or not
    try:
        with open_plain(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check(_Flat(data), name)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise EngineError(f"{name} cannot be read", found=reason(error), expected="a TFLite model") from None
    except struct.error:
        raise EngineError(name, found="a place outside the file", expected="a TFLite model") from None


def _check(flat: _Flat, name: str) -> None:
    if flat.data[4:8] != _IDENTIFIER:
        raise EngineError(name, found=repr(flat.data[4:8]), expected=f"{_IDENTIFIER!r}: a TFLite model")
    model = flat.number("<I", 0)
    for field in (_GROUPS, _EXTERNAL):
        if flat.field(model, field):
            raise BundleError(name, found="buffers in other files", expected="all weights in this one")
    at = flat.field(model, _BUFFERS)
    if not at:
        return
    vector = at + flat.number("<I", at)
    count = flat.number("<I", vector)
    if count > MAX_BUFFERS:
        raise EngineError(name, found=f"{count} buffers", expected=f"at most {MAX_BUFFERS}")
    for place in range(vector + 4, vector + 4 + 4 * count, 4):
        buffer = place + flat.number("<I", place)
        offset, size = (flat.number("<Q", one) if (one := flat.field(buffer, n)) else 0 for n in (_OFFSET, _SIZE))
        if offset + size > len(flat.data):
            raise BundleError(name, found=f"a buffer of {size} bytes at {offset}", expected="one inside the file")


class _Flat:
    """Numbers of a FlatBuffer by their place; ``struct.error`` for one outside it."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data

    def number(self, form: str, at: int) -> int:
        if at < 0:
            raise struct.error
        (found,) = struct.unpack_from(form, self.data, at)
        return int(found)

    def field(self, table: int, number: int) -> int:
        """Where field ``number`` of the table at ``table`` lies; 0 where the table has none."""
        layout = table - self.number("<i", table)
        place = 4 + 2 * number
        if self.number("<H", layout) < place + 2:
            return 0
        offset = self.number("<H", layout + place)
        return table + offset if offset else 0
