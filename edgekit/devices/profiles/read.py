"""A profile out of a file, or out of bytes that somebody posted: checked, bounded, every error with its field."""

from __future__ import annotations

import json
from pathlib import Path
from reprlib import Repr
from typing import Any, NoReturn
from unicodedata import category

from pydantic import ValidationError

from edgekit.bundle.plain import read_plain
from edgekit.devices.emulated import without_times
from edgekit.devices.profiles.schema import MAX_SAMPLES, MAX_TEXT, VERSION, ProfileFile
from edgekit.errors import BundleError, ProfileError

MAX_BYTES = 16 << 20  # 27 rows of 20,000 runs are 4 MB
MAX_DEPTH = 12
MAX_GROUPS, MAX_QUOTES = 100_000, 1_000_000  # lists and objects; an empty one costs 30 times its two characters
_BRIEF = Repr()  # cuts what is long
_BRIEF.maxstring = _BRIEF.maxother = 60
_GREATEST = 1e15  # of any number: what is written here is counted in ms, MB or bytes


def read(source: str | Path | bytes, where: str = "") -> dict[str, Any]:
    """The profile in a file, or in ``bytes`` of JSON, with every known key: one that is missing has its default.

    Keys of newer versions are kept. Times of an emulated profile are dropped, for none of them means anything.
    ``where``: what errors call it, the file's name unless given. Raises ``ProfileError`` naming the field.
    """
    if isinstance(source, bytes):
        name, data = where or "profile", source
        if len(data) > MAX_BYTES:
            raise ProfileError(name, found=f"{len(data)} bytes", expected=f"at most {MAX_BYTES}")
    else:
        name = where or Path(source).name
        try:
            data = read_plain(Path(source), name, MAX_BYTES)
        except BundleError as error:
            raise ProfileError(error.what, found=error.found, expected=error.expected) from None
    value = _parse(data, name)
    _plain(value, name, "", MAX_DEPTH)
    if not isinstance(value, dict):
        raise ProfileError(name, found=_short(value), expected="an object")
    version = value.get("schema_version")
    if type(version) is not int or version != VERSION:
        fix = "A newer edgekit wrote it." if type(version) is int and version > VERSION else None
        found = "nothing" if version is None else _short(version)
        raise ProfileError(f"{name}: schema_version", found=found, expected=VERSION, fix=fix)
    try:
        found_profile = ProfileFile.model_validate(value).model_dump()
    except ValidationError as error:
        raise _explained(error, name) from None
    return without_times(found_profile) if found_profile["basis"] == "emulated" else found_profile


def _parse(data: bytes, name: str) -> Any:
    if data.count(b"[") + data.count(b"{") > MAX_GROUPS or data.count(b'"') > MAX_QUOTES:
        raise ProfileError(name, found="too many values", expected=f"at most {MAX_GROUPS} lists and objects")

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice in one object")
        return found

    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse, object_pairs_hook=unique)
    except RecursionError:
        raise ProfileError(name, found="lists within lists without end", expected="a profile") from None
    except ValueError as error:
        raise ProfileError(f"{name} cannot be read", found=str(error)[:100], expected="JSON in UTF-8") from None


def _plain(value: Any, name: str, path: str, depth: int) -> None:
    """Raises ``ProfileError`` for what no profile holds, under any key: endless texts, lists, depths and numbers."""
    where = f"{name}: {path}" if path else name
    if isinstance(value, str):
        if len(value) > MAX_TEXT or not _printable(value):
            raise ProfileError(where, found=_short(value), expected=f"printable text, at most {MAX_TEXT} characters")
    elif isinstance(value, int | float):
        if not abs(value) <= _GREATEST:
            raise ProfileError(where, found=_short(value), expected=f"a number of at most {_GREATEST:g}")
    elif isinstance(value, list | dict):
        if depth == 0 or len(value) > MAX_SAMPLES:
            found = f"{len(value)} entries" if depth else "too deep a nesting"
            raise ProfileError(where, found=found, expected=f"at most {MAX_SAMPLES} entries, {MAX_DEPTH} levels")
        if isinstance(value, dict):
            for key, item in value.items():
                _plain(key, name, f"{path}: a key", 1)
                _plain(item, name, f"{path}.{key[:80]}".lstrip("."), depth - 1)
        elif not all(type(item) is float and abs(item) <= _GREATEST for item in value):  # samples: most of the file
            for place, item in enumerate(value):
                _plain(item, name, f"{path}[{place}]", depth - 1)


def _printable(text: str) -> bool:
    """No control characters, which a terminal would obey, and no half of a pair, which no file can hold."""
    return text.isprintable() or all(char in "\n\t" or category(char) not in ("Cc", "Cs") for char in text)


def _explained(error: ValidationError, name: str) -> ProfileError:
    """The first of pydantic's complaints, in our words."""
    first = error.errors(include_url=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    if first["type"] == "missing":
        return ProfileError(f"{name}: {path}", found="nothing", expected="this field")
    if first["type"] == "value_error":
        told = str(first["ctx"]["error"])
        return ProfileError(f"{name}{': ' if path else ''}{path}", found=told, expected="a whole profile")
    return ProfileError(f"{name}: {path}", found=_short(first["input"]), expected=first["msg"])


def _short(value: object) -> str:
    return _BRIEF.repr(value)
