"""From numbers to places on a picture: linear and logarithmic axes with round ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tick:
    """A mark on an axis at ``at`` user units."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """``low`` lies at ``start``, ``high`` at ``end`` (user units); ``end`` < ``start`` goes upwards."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where ``value`` lies."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        share = ((math.log(value) if self.log else value) - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int, show: Callable[[float], str]) -> list[Tick]:
        """At most about ``most`` round values within the axis, each told by ``show``."""
        values = _decades(self.low, self.high) if self.log else _steps(self.low, self.high, most)
        while len(values) > most + 1:
            values = values[::2]
        return [Tick(self.at(value), show(value)) for value in values]


def spanning(values: Sequence[float], start: float, end: float, log: bool = False, room: float = 0.08) -> Axis:
    """An axis with all ``values`` on it and ``room`` of its length free at each end."""
    low, high = min(values), max(values)
    if log:
        factor = max((high / low) ** room, 1.15)
        return Axis(low / factor, high * factor, start, end, log=True)
    margin = (high - low) * room or abs(high) * 0.05 or 1.0
    return Axis(low - margin, high + margin, start, end)


def _steps(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [value for value in values if low <= value <= high] or _steps(low, high, 3)
