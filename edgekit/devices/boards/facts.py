"""A board as lines for people: fact, value, and where it is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.devices.boards.record import Board, Cores, Governor, Memory


@dataclass(frozen=True)
class Fact:
    """One line; ``source``: addresses, or titles of what has none."""

    fact: str
    value: str
    source: str


def facts(board: Board) -> list[Fact]:
    """Everything that the file of ``board`` says."""

    def line(fact: str, value: str, group: Any) -> Fact:
        sources = (board.sources[key] for key in group.sources)
        return Fact(fact, value, "; ".join(one.get("url") or one["title"] for one in sources))

    found: list[Fact] = []
    for soc in board.socs:
        found.append(line("chip", f"{soc.name} ({soc.where})" if soc.where else soc.name, soc))
        found += [line("cores", _cores(cores), cores) for cores in soc.cores]
    if board.memory is not None:
        found.append(line("memory", memory(board.memory), board.memory))
    for one in board.accelerators:
        tops = f", {one.tops:g} TOPS" if one.tops else ""
        found.append(line(one.kind, _sentence(f"{one.name}{tops}", one.note), one))
    for engine in board.engines:
        what = f"{engine.package} {engine.version} ({engine.wheel})" if engine.runs else "none"
        found.append(line(f"engine {engine.name}", _sentence(what, engine.note), engine))
    found += [line(sensor.what, sensor.how, sensor) for sensor in board.sensors]
    if board.governor is not None:
        found.append(line("heat", _heat(board.governor), board.governor))
    for fault in board.faults:
        which = " ".join(filter(None, ("known fault", fault.package, fault.versions, fault.machine)))
        found.append(line(which, _sentence(fault.what, fault.instead), fault))
    return found


def memory(one: Memory | None) -> str:
    """Sizes, kind and bandwidth, as far as they are known."""
    if one is None:
        return ""
    sizes = f"{', '.join(f'{size:g}' for size in one.sizes_gb)} GB" if one.sizes_gb else ""
    band = f"{one.bandwidth_gb_s:g} GB/s" if one.bandwidth_gb_s else ""
    return ", ".join(filter(None, (sizes, one.kind, band)))


def _cores(one: Cores) -> str:
    clock = f" at {one.max_mhz:g} MHz" if one.max_mhz else ""
    return f"{one.count} x {one.name}{clock}" + (f": {' '.join(one.isa)}" if one.isa else "")


def _heat(one: Governor) -> str:
    soft = f"slows down at {one.soft_c:g} C" if one.soft_c else ""
    hard = f"limit {one.hard_c:g} C" if one.hard_c else ""
    return _sentence(", ".join(filter(None, (soft, hard))), one.note)


def _sentence(text: str, more: str) -> str:
    return f"{text}. {more}" if more else text
