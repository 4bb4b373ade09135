"""OpenVINO IR: one XML document without entities, whose constants lie in the .bin beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.parsers import expat

from edgekit.bundle.limits import MAX_GRAPH
from edgekit.bundle.plain import read_plain
from edgekit.errors import BundleError, EngineError

MAX_DEPTH = 64  # of elements in each other


def check(path: Path, name: str, listed: Mapping[str, int]) -> None:
    """Raises ``BundleError`` where the .xml ``path`` declares entities or points outside its .bin, ``EngineError``
    where it is no IR.

    ``name``: its path in the bundle; the .bin's size is taken from ``listed``.
    """
    data = read_plain(path, name, MAX_GRAPH)
    if b"\0" in data:  # UTF-16 and its like, which two parsers may take for two things
        raise EngineError(name, found="a byte of zero", expected="an OpenVINO IR, in XML and UTF-8")
    weights = f"{name.removesuffix('.xml')}.bin"
    reader = _Reader(name, weights, listed.get(weights, 0))
    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise EngineError(name, found=str(error)[:120], expected="an OpenVINO IR, in XML") from None


class _Reader:
    def __init__(self, name: str, weights: str, size: int) -> None:
        self._name, self._weights, self._size, self._depth = name, weights, size, 0

    def doctype(self, *_: object) -> None:
        raise BundleError(self._name, found="a document type declaration", expected="none: it may name other files")

    def start(self, tag: str, given: dict[str, str]) -> None:
        if not self._depth and tag != "net":
            raise EngineError(self._name, found=f"<{tag[:40]}>", expected="<net>: an OpenVINO IR")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise EngineError(
                self._name, found=f"{self._depth} elements in each other", expected=f"at most {MAX_DEPTH}"
            )
        if tag == "data" and "offset" in given and "size" in given:
            self._span(given["offset"], given["size"])

    def end(self, _: str) -> None:
        self._depth -= 1

    def _span(self, offset: str, size: str) -> None:
        plain = all(text.isascii() and text.isdecimal() and len(text) < 20 for text in (offset, size))
        if not plain or int(offset) + int(size) > self._size:
            raise BundleError(
                f"{self._name}: a constant",
                found=f"{size[:20]} bytes at {offset[:20]}",
                expected=f"a part of {self._weights}, which has {self._size} bytes",
            )
