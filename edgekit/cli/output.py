"""Results on stdout: a table for people, Markdown, CSV, or JSON with ``schema_version``."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edgekit.cli.options import Format
from edgekit.errors import InputError

WIDE = 240  # a table that goes to a file or a pipe is never cut at the eightieth column


@dataclass(frozen=True)
class Column:
    """One column: where its value is in a row, its heading, how it is written for people."""

    key: str
    heading: str
    show: Callable[[Any], str] = str
    right: bool = True

    def text(self, row: dict[str, Any]) -> str:
        """The cell of ``row``; a dash where there is no value."""
        value = row.get(self.key)
        return "-" if value is None else self.show(value)


def emit(form: Format, payload: dict[str, Any], rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> None:
    """Print ``payload`` as JSON, or ``rows`` in one of the other forms (CSV: plain values under the keys)."""
    if form is Format.json:
        print(to_json({"schema_version": 1, **payload}))
    elif form is Format.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([column.key for column in columns])
        writer.writerows([_plain(row.get(column.key)) for column in columns] for row in rows)
    elif form is Format.md:
        print(markdown(rows, columns))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column.heading, justify="right" if column.right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(column.text(row) for column in columns))
        _print_table(table)


def _print_table(table: Table) -> None:
    out = Console(highlight=False, markup=False)
    if out.is_terminal:
        out.print(table)
        return
    plain = Console(width=WIDE, highlight=False, markup=False)
    with plain.capture() as held:
        plain.print(table)
    print("\n".join(line.rstrip() for line in held.get().splitlines()))


def markdown(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(column.heading for column in columns) + " |"]
    lines.append("|" + "|".join("---:" if column.right else "---" for column in columns) + "|")
    lines += ["| " + " | ".join(column.text(row).replace("|", "\\|") for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def to_json(value: Any) -> str:
    """JSON that every reader takes: no NaN, no infinity (null instead)."""
    return json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        return _finite(value.item())  # a numpy scalar
    return value


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def new_file(path: Path, overwrite: bool) -> None:
    """Raises ``InputError`` where ``path`` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise InputError(str(path), found="it exists", expected="a new path", fix="Add --overwrite to replace it.")


def say(line: str) -> None:
    """One line for the person, on stderr."""
    print(line, file=sys.stderr, flush=True)
