"""Readings to a stage: how much has to be done now. Knows neither streams nor sensors."""

from __future__ import annotations

from collections import deque
from statistics import median

from edgekit.runtimes.realtime.settings import GovernorSettings
from edgekit.runtimes.telemetry.readings import Readings

_BACK_SOON = 4.0  # times recover_s
_LONGEST = 16.0  # times recover_s
_PROGRESS = 0.1  # of the band between trouble and fine


class Controller:
    """``stage`` 0 is normal, ``stages`` the most that can be done. :meth:`decide` moves it; ``reason`` says why."""

    def __init__(self, settings: GovernorSettings, stages: int) -> None:
        self.settings, self.stages = settings, stages
        self.stage, self.reason = 0, ""
        self._recent: dict[str, deque[float]] = {}
        self._latched: set[str] = set()  # in trouble, and not read as fine since
        self._changed_at = self._progress_at = self._fine_since = self._undone_at = _NEVER
        self._before: dict[str, float] = {}  # the values at the last change or progress
        self._eased = False  # whether the last change undid something
        self._recover_s = settings.recover_s

    def decide(self, readings: Readings, now: float) -> int:
        """The stage from ``now`` (seconds) on."""
        values = self._smoothed(readings)
        worse = self._look(values)
        critical = self.settings.critical_c
        heat = values.get("temperature_c")
        if critical is not None and heat is not None and heat >= critical and self.stage < self.stages:
            self._move(self.stages, now, f"temperature_c {heat:.1f}, critical from {critical:g}")
        elif worse and self.stage < self.stages and self._is_due(values, now):
            self._move(self.stage + 1, now, "; ".join(worse.values()))
        self._note_progress(values, now)
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

    def _is_due(self, values: dict[str, float], now: float) -> bool:
        """Whether what was done before has had its time, and does not help: heat goes down slowly."""
        if self.stage == 0:
            return True
        since = now - max(self._changed_at, self._progress_at)
        return since >= self.settings.settle_s and not self._progressed(values)

    def _progressed(self, values: dict[str, float]) -> bool:
        """Whether all that is in trouble is better than it was when something was done, or when it last was better."""
        bands = self.settings.bands
        troubled = [name for name in values if name in bands and bands[name].is_trouble(values[name])]
        if not troubled or "throttle" in self._latched:
            return False
        for name in troubled:
            band, before = bands[name], self._before.get(name)
            gained = 0.0 if before is None else (before - values[name]) / (band.trouble - band.fine)
            if gained < _PROGRESS:
                return False
        return True

    def _note_progress(self, values: dict[str, float], now: float) -> None:
        """Every ``settle_s``, and with each change: what later values are compared with."""
        at = max(self._changed_at, self._progress_at)
        if self._changed_at == now or (now - at >= self.settings.settle_s and self._progressed(values)):
            self._before, self._progress_at = dict(values), now

    def _look(self, values: dict[str, float]) -> dict[str, str]:
        """What is in trouble, and how; remembers it until it is read as fine."""
        worse = {}
        for name, band in self.settings.bands.items():
            value = values.get(name)
            if value is None:
                continue
            if band.is_trouble(value):
                worse[name] = f"{name} {value:.1f}, trouble from {band.trouble:g}"
                self._latched.add(name)
            elif band.is_fine(value):
                self._latched.discard(name)
        if self.settings.throttle and "throttle" in values:
            if values["throttle"] >= 0.5:
                worse["throttle"] = "the board throttles"
                self._latched.add("throttle")
            else:
                self._latched.discard("throttle")
        return worse

    def _move(self, stage: int, now: float, reason: str) -> None:
        if stage < self.stage:
            self._undone_at, self._eased = now, True
        elif self._eased:  # trouble after something was undone: was that too early?
            soon = now - self._undone_at < _BACK_SOON * self._recover_s
            longest = _LONGEST * self.settings.recover_s
            self._recover_s = min(2 * self._recover_s, longest) if soon else self.settings.recover_s
            self._eased = False
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
