"""``edgekit devices``: the known boards, one of them, or what this machine is."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.options import Format, FormatOption
from edgekit.cli.output import Column, emit
from edgekit.errors import InputError

LIST = [
    Column("key", "board", right=False),
    Column("name", "name", right=False),
    Column("soc", "chip", right=False),
    Column("cores", "cores"),
    Column("memory", "memory", right=False),
    Column("engines", "engines", right=False),
]
SHOW = [
    Column("fact", "fact", right=False),
    Column("value", "", right=False),
    Column("source", "source", right=False),
]
PROBE = [
    Column("fact", "fact", right=False),
    Column("here", "here", right=False),
    Column("file", "its file says", right=False),
]
WHAT = ("list", "show", "probe")


def command(
    what: Annotated[str, typer.Argument(metavar="[list|show|probe]", help="Default: list.")] = "list",
    board: Annotated[str, typer.Argument(metavar="[BOARD]", help="For show: a board's name, such as pi5.")] = "",
    root: Annotated[Path, typer.Option("--root", help="For probe: where /proc and /sys are.")] = Path("/"),
    form: FormatOption = Format.table,
) -> int:
    """List the known boards, show one with its sources, or probe which one this machine is.

    probe names the facts that this machine shows otherwise than its board's file says.
    """
    if what not in WHAT or bool(board) != (what == "show"):
        raise InputError("devices", found=f"{what} {board}".strip(), expected="list, show BOARD or probe")
    if what == "show":
        return _show(board, form)
    return _probe(root, form) if what == "probe" else _list(form)


def _list(form: Format) -> int:
    from edgekit.devices import environment
    from edgekit.devices.boards import load, names
    from edgekit.devices.boards.facts import memory

    rows = [
        {
            "key": board.key,
            "name": board.name,
            "kind": board.kind,
            "soc": " or ".join(soc.name for soc in board.socs),
            "cores": board.cores,
            "memory": memory(board.memory) or None,
            "engines": ", ".join(engine.name for engine in board.engines if engine.runs),
        }
        for board in map(load, names())
    ]
    emit(form, {"local": environment(), "boards": rows}, rows, LIST)
    return 0


def _show(key: str, form: Format) -> int:
    from edgekit.devices.boards import load
    from edgekit.devices.boards.facts import facts

    board = load(key)
    rows = [{"fact": "name", "value": f"{board.name} ({board.kind}, {board.architecture})", "source": None}]
    emit(form, {"board": board.to_dict()}, [*rows, *map(asdict, facts(board))], SHOW)
    return 0


def _probe(root: Path, form: Format) -> int:
    from edgekit.devices import environment
    from edgekit.devices.boards import differences, identify, look

    seen, local = look(root), environment(root)
    board = identify(seen)
    found = [asdict(one) for one in differences(board, seen)] if board else []
    rows = [{"fact": "board", "here": board.name if board else "none that edgekit knows", "file": board and board.key}]
    rows += found
    rows += [{"fact": name.replace("_", " "), "here": _text(value), "file": None} for name, value in local.items()]
    emit(form, {"board": board and board.key, "local": local, "differences": found}, rows, PROBE)
    return 0


def _text(value: Any) -> str:
    if value is None:
        return "not shown by this machine"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
