"""Readings to a stage: how much has to be done now. Knows neither streams nor sensors."""

from __future__ import annotations

from collections import deque
from statistics import median

from edgekit.runtimes.realtime.settings import GovernorSettings
from edgekit.runtimes.telemetry.readings import Readings

_BACK_SOON = 4.0  # times recover_s
_LONGEST = 8.0  # times recover_s


class Controller:
    """``stage`` 0 is normal, ``stages`` the most that can be done. :meth:`decide` moves it; ``reason`` says why."""

    def __init__(self, settings: GovernorSettings, stages: int) -> None:
        self.settings, self.stages = settings, stages
        self.stage, self.reason = 0, ""
        self._recent: dict[str, deque[float]] = {}
        self._latched: set[str] = set()  # in trouble, and not read as fine since
        self._changed_at = self._fine_since = self._undone_at = _NEVER
        self._recover_s = settings.recover_s

    def decide(self, readings: Readings, now: float) -> int:
        """The stage from ``now`` (seconds) on."""
        values = self._smoothed(readings)
        worse = self._look(values)
        critical = self.settings.critical_c
        heat = values.get("temperature_c")
        if critical is not None and heat is not None and heat >= critical and self.stage < self.stages:
            self._move(self.stages, now, f"temperature_c {heat:.1f}, critical from {critical:g}")
        elif (
            worse and self.stage < self.stages and (self.stage == 0 or now - self._changed_at >= self.settings.settle_s)
        ):
            self._move(self.stage + 1, now, "; ".join(worse))
        if self._latched:
            self._fine_since = _NEVER
        elif self._fine_since == _NEVER:
            self._fine_since = now
        elif self.stage and now - max(self._fine_since, self._changed_at) >= self._recover_s:
            self._move(self.stage - 1, now, f"all fine for {self._recover_s:g} s")
        return self.stage

    def _smoothed(self, readings: Readings) -> dict[str, float]:
        """The medians of what is looked at. What was not read, or not yet often enough, is left out."""
        found = {}
        for name, value in _values(readings).items():
            if value is None or not (name in self.settings.bands or name in ("throttle", "temperature_c")):
                continue
            recent = self._recent.setdefault(name, deque(maxlen=self.settings.smooth))
            recent.append(value)
            if len(recent) == self.settings.smooth:
                found[name] = median(recent)
        return found

    def _look(self, values: dict[str, float]) -> list[str]:
        """What is in trouble; remembers it until it is read as fine."""
        worse = []
        for name, band in self.settings.bands.items():
            value = values.get(name)
            if value is None:
                continue
            if band.is_trouble(value):
                worse.append(f"{name} {value:.1f}, trouble from {band.trouble:g}")
                self._latched.add(name)
            elif band.is_fine(value):
                self._latched.discard(name)
        if self.settings.throttle and "throttle" in values:
            if values["throttle"] >= 0.5:
                worse.append("the board throttles")
                self._latched.add("throttle")
            else:
                self._latched.discard("throttle")
        return worse

    def _move(self, stage: int, now: float, reason: str) -> None:
        if stage > self.stage:
            soon = now - self._undone_at < _BACK_SOON * self._recover_s
            longest = _LONGEST * self.settings.recover_s
            self._recover_s = min(2 * self._recover_s, longest) if soon else self.settings.recover_s
            self._undone_at = _NEVER if soon else self._undone_at
        else:
            self._undone_at = now
        self.stage, self.reason, self._changed_at = stage, reason, now


_NEVER = float("-inf")


def _values(readings: Readings) -> dict[str, float | None]:
    """By the names of the settings' bands."""
    fastest, clock = readings.frequency_max_mhz, readings.frequency_mhz
    memory, cpu = readings.pressure.get("memory"), readings.pressure.get("cpu")
    return {
        "temperature_c": readings.temperature_c,
        "power_w": readings.power_w,
        "memory_available_mb": readings.memory_available_mb,
        "memory_pressure": memory.some if memory else None,
        "cpu_pressure": cpu.some if cpu else None,
        "frequency_share": clock / fastest if clock is not None and fastest else None,
        "throttle": float(readings.throttle.now) if readings.throttle else None,
    }
