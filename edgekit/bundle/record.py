"""What all records of a bundle share: plain JSON out, checked JSON in."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgekit.bundle.decode import decode

# Metadata of a field that JSON leaves out while it has its default: those of one kind of task alone.
SPARE = {"spare": True}


class Record:
    """The base of all records, which are frozen dataclasses."""

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts and lists, ready for ``json.dumps``."""
        found: dict[str, Any] = _plain(self)
        return found

    @classmethod
    def from_dict(cls, value: object, where: str = "manifest.json") -> Any:
        """The record in ``value``; unknown keys are ignored, a wrong type raises ``BundleError`` naming the field."""
        return decode(cls, value, where)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (field.metadata.get("spare") and getattr(value, field.name) == _default(field))
        }
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
