"""Energy while something runs, only where a sensor tells it: RAPL's counters, or a board's power monitor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from edgekit.runtimes.telemetry.jetson import rails
from edgekit.runtimes.telemetry.readings import input_power

T = TypeVar("T")
EVERY_S = 0.02  # between two looks at a power monitor


class Meter:
    """``source``: what tells the energy, "" where nothing does. ``root``: where /sys is.

    Counters (powercap) are of whole processor packages and most often only root may read them; a power monitor (the
    INA3221 of a Jetson) is of the whole board. Either way what else runs there, and what idles, is in it.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._counters = _counters(root)
        self.source = ""
        if self._counters:
            self.source = f"RAPL {' '.join(name for name, _, _ in self._counters)}"
        elif input_power(rails(root)) is not None:
            self.source = "power monitor, whole board"

    def around(self, work: Callable[[], T]) -> tuple[T, float | None]:
        """What ``work`` returns, and the mJ that were used meanwhile; None without a sensor."""
        if self._counters:
            before = [_number(path) for _, path, _ in self._counters]
            done = work()
            after = [_number(path) for _, path, _ in self._counters]
            return done, _difference(before, after, [most for _, _, most in self._counters])
        if not self.source:
            return work(), None
        return self._sampled(work)

    def _sampled(self, work: Callable[[], T]) -> tuple[T, float | None]:
        """Power times time, by trapezoids."""
        seen: list[tuple[float, float]] = []
        ended = threading.Event()

        def look() -> None:
            power = input_power(rails(self._root))
            if power is not None:
                seen.append((time.perf_counter(), power))

        def watch() -> None:
            while not ended.wait(EVERY_S):
                look()

        look()
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            done = work()
        finally:
            ended.set()
            watcher.join()
        look()
        pairs = pairwise(seen)
        joules = sum((now - then) * (high + low) / 2 for (then, low), (now, high) in pairs)
        return done, joules * 1000 if len(seen) > 1 else None


def _counters(root: Path) -> list[tuple[str, Path, float]]:
    """(name, counter of uJ, where it starts again) of each processor package that lets itself be read."""
    found = []
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*")):
        counter = zone / "energy_uj"
        most = _number(zone / "max_energy_range_uj")
        if zone.name.count(":") == 1 and most is not None and _number(counter) is not None:
            try:
                name = (zone / "name").read_text().strip()
            except OSError:
                name = zone.name
            if name.startswith("package"):  # psys holds the packages too, where there is one
                found.append((name, counter, most))
    return found


def _difference(before: list[float | None], after: list[float | None], most: list[float]) -> float | None:
    used = 0.0
    for first, last, top in zip(before, after, most, strict=True):
        if first is None or last is None:
            return None
        used += last - first if last >= first else last + top - first
    return used / 1000


def _number(path: Path) -> float | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return float(text) if text.isascii() and text.isdigit() else None
