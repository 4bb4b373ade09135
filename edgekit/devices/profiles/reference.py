"""The published form of a profile: JSON Schema for programs, and a table of every key for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from edgekit.devices.profiles.schema import Part, ProfileFile
from edgekit.recipe.reference import put_between

START, END = "<!-- keys: made by `python -m edgekit.devices.profiles docs` -->", "<!-- end of keys -->"
_ID = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """The JSON Schema, as docs/profile.schema.json holds it."""
    schema = {"$schema": _ID, **ProfileFile.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def key_table() -> str:
    """A Markdown table of every key and what it means."""
    rows = ["| key | means |", "|---|---|"]
    rows += [f"| `{key}` | {text} |" for key, text in _keys(ProfileFile, "")]
    return "\n".join(rows)


def write(docs: Path) -> list[Path]:
    """Bring profile.schema.json and the table in profile.md, both in ``docs``, up to date; returns the two paths."""
    schema, page = docs / "profile.schema.json", docs / "profile.md"
    schema.write_text(schema_text(), encoding="utf-8")
    put_between(page, START, END, key_table())
    return [schema, page]


def _keys(part: type[Part], prefix: str) -> Iterator[tuple[str, str]]:
    for name, info in part.model_fields.items():
        yield prefix + name, str(info.description)
        for inner, mark in _parts(info.annotation, ""):
            yield from _keys(inner, f"{prefix}{name}{mark}.")


def _parts(annotation: Any, mark: str) -> Iterator[tuple[type[Part], str]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation, mark
    for one in get_args(annotation):
        yield from _parts(one, "[]" if getattr(annotation, "__origin__", None) is list else mark)
