"""``edgekit devices``: what this machine is."""

from __future__ import annotations

from typing import Any

from edgekit.cli.options import Format, FormatOption
from edgekit.cli.output import Column, emit

COLUMNS = [Column("name", "this machine", right=False), Column("value", "", right=False)]


def command(form: FormatOption = Format.table) -> int:
    """Show what this machine is.

    Processor, instruction set, memory, clock, temperature, versions.
    """
    from edgekit.devices import environment

    seen = environment()
    rows = [{"name": name.replace("_", " "), "value": _text(value)} for name, value in seen.items()]
    emit(form, {"local": seen}, rows, COLUMNS)
    return 0


def _text(value: Any) -> str:
    if value is None:
        return "not shown by this machine"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
