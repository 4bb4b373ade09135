"""JSON values into dataclasses: strict on types, tolerant of keys it does not know. Standard library only."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from typing import Any, TypeVar

from edgekit.errors import BundleError, InputError

T = TypeVar("T")
_JSON_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false", dict: "an object"}


def decode(cls: type[T], value: object, where: str) -> T:
    """Build the dataclass ``cls`` from parsed JSON. ``where`` (file and field) opens every message.

    Raises :class:`BundleError` for a missing field, a wrong type or a value that ``cls`` refuses.
    """
    if not isinstance(value, dict):
        raise BundleError(where, found=_kind(value), expected="an object")
    hints = _hints(cls)  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in value:
            found[field.name] = _value(hints[field.name], value[field.name], f"{where}: {field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise BundleError(f"{where}: {field.name}", found="nothing", expected="this field")
    try:
        return cls(**found)
    except BundleError:
        raise
    except InputError as error:
        raise BundleError(f"{where}: {error.what}", found=error.found, expected=error.expected) from None


_hints = functools.cache(typing.get_type_hints)


def _value(hint: Any, value: object, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _value(next(a for a in typing.get_args(hint) if a is not type(None)), value, where)
    if origin is list:
        if not isinstance(value, list):
            raise BundleError(where, found=_kind(value), expected="a list")
        (inner,) = typing.get_args(hint)
        if inner in (str, int, bool) and all(type(item) is inner for item in value):
            return list(value)  # a manifest may hold millions
        return [_value(inner, item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise BundleError(where, found=_kind(value), expected="an object")
        return value
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), value, where)
    if hint is float and type(value) is int:
        value = float(value) if abs(value) < 2**63 else math.inf
    if type(value) is not hint or (hint is float and not math.isfinite(typing.cast(float, value))):
        raise BundleError(where, found=_kind(value), expected=_JSON_NAMES[hint])
    return value


def _kind(value: object) -> str:
    """The value, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
