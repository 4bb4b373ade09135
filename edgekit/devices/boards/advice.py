"""What the doctor says of the board that it is on: known faults of what is installed, and what runs here instead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgekit.devices.boards.identify import Seen, differences
from edgekit.devices.boards.record import Board, Fault


@dataclass(frozen=True)
class Advice:
    """One thing to know. ``ok`` False: what is installed is known to break here; ``fix``: what to do instead."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def advise(board: Board, seen: Seen, installed: Mapping[str, str]) -> list[Advice]:
    """``installed``: versions by normalised package name. Faults that hit come first, then what is good to know."""
    differ = differences(board, seen)
    told = "; ".join(f"{one.fact}: its file says {one.file}, here {one.here}" for one in differ)
    found = [Advice("board", True, f"{board.name}{'; ' + told if told else ''}", "" if not told else _SEE)]
    found += [
        Advice(fault.package or "board", not hit, _detail(board, fault), fault.instead)
        for fault in board.faults
        if (hit := _hits(fault, seen, installed)) or _concerns_all(fault)
    ]
    found += _engines(board, installed)
    return found


_SEE = "`edgekit devices probe` shows all; a fact that is wrong in the file is worth reporting."


def _engines(board: Board, installed: Mapping[str, str]) -> Iterator[Advice]:
    """The engines that run on ``board``, if none of them is here."""
    able = [engine for engine in board.engines if engine.runs and engine.package]
    if not able or any(engine.package in installed or f"{engine.package}-gpu" in installed for engine in able):
        return
    lines = " or ".join(f"pip install {engine.package}=={engine.version}" for engine in able[:3])
    names = ", ".join(f"{engine.name} ({engine.wheel})" for engine in able)
    yield Advice("engine", True, f"none is installed; on this board there are {names}", lines)


def _hits(fault: Fault, seen: Seen, installed: Mapping[str, str]) -> bool:
    if fault.machine:
        return seen.machine == fault.machine
    version = installed.get(fault.package)
    return version is not None and matches(version, fault.versions)


def _concerns_all(fault: Fault) -> bool:
    return not fault.package and not fault.machine


def _detail(board: Board, fault: Fault) -> str:
    links = [url for key in fault.sources if (url := board.sources[key].get("url"))]
    which = f" {fault.versions}" if fault.versions else ""
    return f"{fault.package}{which}{': ' if fault.package else ''}{fault.what}" + (f" ({links[0]})" if links else "")


def matches(version: str, spec: str) -> bool:
    """Whether ``version`` fits ``spec``: comparisons with commas between, such as ">=1.20,<1.22"; "" fits all."""
    have = _numbers(version)
    for part in filter(None, (part.strip() for part in spec.split(","))):
        found = re.fullmatch(r"(==|<=|>=|<|>)\s*([0-9][0-9.]*)", part)
        if found is None:
            raise ValueError(f"a comparison of versions: {part!r}")
        wanted = _numbers(found[2])
        size = max(len(have), len(wanted))
        a, b = have + (0,) * (size - len(have)), wanted + (0,) * (size - len(wanted))
        if not {"==": a == b, "<=": a <= b, ">=": a >= b, "<": a < b, ">": a > b}[found[1]]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))
