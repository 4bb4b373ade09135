"""Rows of a profile, measured in turns: all their processes are alive, and each runs a slice in every round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.devices.child import KEEP, Child
from edgekit.devices.energy import Meter
from edgekit.devices.probe import memory_limit_mb
from edgekit.errors import EngineError
from edgekit.runtimes.choose import Choice
from edgekit.runtimes.telemetry.read import Telemetry

ROUNDS = 5
MOST = 32  # processes at once
SPARE = 0.2  # of the memory that is available at the start


@dataclass
class Taken:
    """What one process did: ``ready``, one answer a slice, memory at its ``end``, ``energy_mj`` of each slice."""

    group: int
    ready: dict[str, Any] = field(default_factory=dict)
    slices: list[dict[str, Any]] = field(default_factory=list)
    energy_mj: list[float | None] = field(default_factory=list)
    energy_source: str = ""
    end: dict[str, Any] = field(default_factory=dict)


def in_turns(
    jobs: Sequence[dict[str, Any]],
    runs: int,
    seconds: float,
    *,
    rounds: int = ROUNDS,
    root: Path = Path("/"),
    told: Callable[[int, str], None] = lambda place, what: None,
) -> tuple[list[Taken | None], dict[Choice, str]]:
    """One process a job, each with at least ``runs`` runs and ``seconds``: (what each did, causes of what failed).

    As many processes as memory holds are a group, whose slices are interleaved in an order that rotates; the others
    follow in further groups. What fails once, by (file, engine), is not tried again, and its place holds None.
    There are no more rounds than runs. ``told``: called with a job's place and what it did, once a round and once more.
    """
    rounds = min(rounds, runs)
    found: list[Taken | None] = [None] * len(jobs)
    broken: dict[Choice, str] = {}
    left, group, meter, room = list(range(len(jobs))), 0, Meter(root), _Room(root)
    while left:
        with ExitStack() as stack:
            alive: dict[int, tuple[Child, Taken]] = {}
            while left and len(alive) < MOST and (not alive or room.left()):
                place = left.pop(0)
                job = jobs[place]
                try:
                    if _key(job) not in broken:
                        child = stack.enter_context(Child(job))
                        alive[place] = child, Taken(group, child.ready, energy_source=meter.source)
                        room.took(child.ready)
                        told(place, "loaded")
                except EngineError as error:
                    broken[_key(job)] = str(error)
            _rounds(jobs, alive, (runs, seconds, rounds), meter, broken, told)
            for place, (_, taken) in alive.items():
                found[place] = taken if taken.end else None
        group += 1
    return found, broken


def _rounds(
    jobs: Sequence[dict[str, Any]],
    alive: dict[int, tuple[Child, Taken]],
    wanted: tuple[int, float, int],
    meter: Meter,
    broken: dict[Choice, str],
    told: Callable[[int, str], None],
) -> None:
    runs, seconds, rounds = wanted
    order = list(alive)
    for number in range(rounds if alive else 0):
        share = runs * (number + 1) // rounds - runs * number // rounds
        first = number % len(order)
        for place in order[first:] + order[:first]:
            child, taken = alive[place]
            if _key(jobs[place]) in broken:
                continue
            try:
                _one(child, taken, (share, seconds / rounds, KEEP // rounds), meter)
                if number == rounds - 1:
                    taken.end = child.end()
            except EngineError as error:
                broken[_key(jobs[place])] = str(error)
            told(place, f"round {number + 1} of {rounds}")


def _one(child: Child, taken: Taken, wanted: tuple[int, float, int], meter: Meter) -> None:
    runs, seconds, most = wanted
    done, energy = meter.around(lambda: child.slice(runs, seconds, most))
    if done["parts_ms"]:
        taken.slices.append(done)
        taken.energy_mj.append(energy)


def _key(job: dict[str, Any]) -> Choice:
    return Choice(job["file"], job["engine"])


class _Room:
    """Whether another process fits into memory, judged by the largest so far."""

    def __init__(self, root: Path) -> None:
        self._root, self._telemetry = root, Telemetry(root)
        self._start, self._largest = self._available(), 0.0

    def took(self, ready: dict[str, Any]) -> None:
        self._largest = max(self._largest, ready["rss_mb"] or 0.0)

    def left(self) -> bool:
        now = self._available()
        return now is None or self._start is None or now >= 2 * self._largest + SPARE * self._start

    def _available(self) -> float | None:
        free = self._telemetry.read().memory_available_mb
        limit = memory_limit_mb(self._root)
        if limit is not None:
            try:
                used = int((self._root / "sys/fs/cgroup/memory.current").read_text()) / 1e6
            except (OSError, ValueError):
                used = 0.0
            free = limit - used if free is None else min(free, limit - used)
        return free
