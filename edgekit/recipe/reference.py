"""The published reference of the recipe: JSON Schema for editors, and a table of every field for people."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edgekit.recipe.explain import unwrap
from edgekit.recipe.schema import Recipe, json_schema

START, END = "<!-- fields: made by `python -m edgekit.recipe docs` -->", "<!-- end of fields -->"


def schema_text() -> str:
    """The JSON Schema, as docs/recipe.schema.json holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def field_table() -> str:
    """A Markdown table of every field: dotted key, type, default, meaning."""
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, text in _fields(Recipe, ""):
        rows.append(f"| `{key}` | {kind} | {default} | {text} |")
    return "\n".join(rows)


def write(docs: Path) -> list[Path]:
    """Bring recipe.schema.json and the table in recipe.md, both in ``docs``, up to date; returns the two paths."""
    schema, page = docs / "recipe.schema.json", docs / "recipe.md"
    schema.write_text(schema_text(), encoding="utf-8")
    put_between(page, START, END, field_table())
    return [schema, page]


def put_between(page: Path, start: str, end: str, text: str) -> None:
    """Replace what stands between the marks ``start`` and ``end`` in the file ``page``."""
    before, _, rest = page.read_text(encoding="utf-8").partition(start)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")


def _fields(model: type[BaseModel], prefix: str) -> list[tuple[str, str, str, str]]:
    rows: list[tuple[str, str, str, str]] = []
    for name, info in model.model_fields.items():
        inner = [one for one in unwrap(info.annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
        if inner:
            default_gate = getattr(model, "default_gate", {}) if name == "gate" else {}
            for row in _fields(inner[0], f"{prefix}{name}."):
                field = row[0].rpartition(".")[2]
                rows.append((*row[:2], f"`{default_gate[field]}`", row[3]) if field in default_gate else row)
            continue
        rows.append((prefix + name, _kind(info.annotation), _default(info), str(info.description)))
        if prefix + name == "data.train":
            rows += _fields(get_args(info.annotation)[0], "data.train[].")
    return rows


def _default(info: Any) -> str:
    if info.is_required():
        return "**required**"
    value = info.default if info.default is not PydanticUndefined else info.default_factory()
    return "" if value in ("", []) else f"`{json.dumps(value)}`"


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(one) for one in get_args(annotation)))
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    if origin is list:
        return f"list of {_kind(get_args(annotation)[0])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "source"
    return {str: "text", int: "whole number", float: "number", bool: "true, false"}.get(annotation) or _kind(
        get_args(annotation)[0]
    )
