"""``edgekit profile --compare A B``: two profiles side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.cli.options import Format
from edgekit.cli.output import Column, emit, say

MS = "{:.2f}".format
ROWS = [
    Column("file", "file", right=False),
    Column("engine", "engine", right=False),
    Column("precision", "precision", right=False),
    Column("tower", "tower", right=False),
    Column("threads", "threads"),
    Column("batch", "batch"),
    Column("length", "tokens"),
    Column("a_p50_ms", "A p50", MS),
    Column("b_p50_ms", "B p50", MS),
    Column("ratio", "B / A", "{:.3f}".format),
    Column("low", "low", "{:.3f}".format),
    Column("high", "high", "{:.3f}".format),
    Column("p", "p", "{:.2g}".format),
    Column("verdict", "B is", right=False),
]
LONGEST = 60


def compared(a: Path, b: Path, form: Format) -> int:
    """Print what differs between the profiles in ``a`` and ``b``; 0, whatever it is. Raises ProfileError."""
    from edgekit.devices import profiles

    found = profiles.compare(profiles.read(a), profiles.read(b))
    shown = [column for column in ROWS if column.key != "tower" or any(row["tower"] for row in found["rows"])]
    emit(form, {"a": str(a), "b": str(b), **found}, found["rows"], shown)
    if form is not Format.json:
        for one in found["differences"]:
            say(f"differs: {one['what']}: {_short(one['a'])} and {_short(one['b'])}")
        for name in ("a", "b"):
            for row in found[f"only_{name}"]:
                say(f"only in {name.upper()}: {row['engine']}, {row['file']}, threads {row['threads']}")
        for name in found["busy"]:
            say(f"{name.upper()} was measured on a busy machine: what is different may be that")
        if not any(row["verdict"] in ("slower", "faster") for row in found["rows"]):
            say("no difference shown")
    return 0


def _short(value: Any) -> str:
    text = "nothing" if value is None or value == "" else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
