"""Tables of dicts, and any value in a cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgekit.report import figures as f


def keys(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Columns of a table of dicts: every key whose values fit in a cell, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, dict | list)))


def plain(value: Any) -> str:
    """Any value in a cell."""
    if value is None or f.missing(value):
        return f.DASH
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or f.DASH
    if isinstance(value, list | tuple):
        return " ".join(plain(item) for item in value) or f.DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def dicts(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table with a column for each key."""
    names = keys(rows)
    return table([name.replace("_", " ") for name in names], ([plain(row.get(name)) for name in names] for row in rows))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A Markdown table; columns ``right`` are flush right."""
    flush = set(right)
    lines = ["| " + " | ".join(map(text, head)) + " |"]
    lines.append("|" + "|".join("---:" if i in flush else "---" for i in range(len(head))) + "|")
    lines += ["| " + " | ".join(text(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def text(value: str) -> str:
    """Other people's text in Markdown: no table cell ends early, no tag begins."""
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
