"""The governor's set points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from edgekit.errors import InputError

ACTIONS = ("rate", "ladder", "threads", "pause")


@dataclass(frozen=True)
class Band:
    """From ``trouble`` on something is done; up to ``fine`` it is undone; between them nothing changes.

    ``fine`` below ``trouble``: more is worse (temperature); above: less is worse (free memory).
    """

    trouble: float
    fine: float

    def __post_init__(self) -> None:
        for name in ("trouble", "fine"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(name, found=repr(value), expected="a number")
        if self.trouble == self.fine:
            raise InputError("fine", found=self.fine, expected=f"another value than trouble, {self.trouble}")

    def is_trouble(self, value: float) -> bool:
        """At or past ``trouble``."""
        return value >= self.trouble if self.trouble > self.fine else value <= self.trouble

    def is_fine(self, value: float) -> bool:
        """At or past ``fine``."""
        return value <= self.fine if self.trouble > self.fine else value >= self.fine


@dataclass(frozen=True)
class GovernorSettings:
    """When the governor acts, and how. A band that is None is not looked at; nor is what the board does not show.

    ``temperature_c``: of the hottest sensor; ``critical_c``: from there on, everything at once. ``power_w``: of the
    board. ``memory_available_mb``: 10**6 bytes. ``memory_pressure``, ``cpu_pressure``: % of the last 10 s in which some
    task waited. ``frequency_share``: clock over its maximum. ``throttle``: whether a throttle flag is trouble.

    Every ``period_s`` it reads the board, and decides by the medians of the last ``smooth`` readings. ``settle_s``: how
    long an action may show its effect; while what is in trouble gets better by a tenth of its band in that time, the
    next action waits. ``recover_s``: how long all must be fine before one is undone, doubled (up to 16-fold) when
    trouble comes back within four times that. ``actions``: in their order, of
    "rate" (to ``rate`` of what it was), "ladder" (down, rung by rung), "threads", "pause".

    The defaults suit a Raspberry Pi 4 or 5, whose soft limit is at 80 °C and hard limit at 85 °C.
    """

    temperature_c: Band | None = Band(78.0, 70.0)
    critical_c: float | None = 84.0
    power_w: Band | None = None
    memory_available_mb: Band | None = Band(64.0, 128.0)
    memory_pressure: Band | None = Band(20.0, 5.0)
    cpu_pressure: Band | None = None
    frequency_share: Band | None = None
    throttle: bool = True
    period_s: float = 1.0
    smooth: int = 5
    settle_s: float = 20.0
    recover_s: float = 30.0
    rate: float = 0.5
    actions: tuple[str, ...] = ACTIONS

    def __post_init__(self) -> None:
        for name in ("period_s", "settle_s", "recover_s"):
            _number(name, getattr(self, name), 1e-3, 1e6)
        _number("rate", self.rate, 1e-3, 1.0)
        if self.critical_c is not None:
            _number("critical_c", self.critical_c, -60.0, 200.0)
        if isinstance(self.smooth, bool) or not isinstance(self.smooth, int) or not 1 <= self.smooth <= 1000:
            raise InputError("smooth", found=repr(self.smooth), expected="1 to 1000 readings")
        if not isinstance(self.throttle, bool):
            raise InputError("throttle", found=repr(self.throttle), expected="true or false")
        if len(set(self.actions)) < len(self.actions) or not set(self.actions) <= set(ACTIONS):
            raise InputError("actions", found=list(self.actions), expected=f"some of {', '.join(ACTIONS)}, each once")

    @property
    def bands(self) -> dict[str, Band]:
        """Those that are set, by name."""
        return {one.name: band for one in fields(self) if isinstance(band := getattr(self, one.name), Band)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> GovernorSettings:
        """Of plain data, as a board's file has it; a band is ``{"trouble": 80, "fine": 72}`` or None.

        What is not given is the default. Raises ``InputError`` naming the field.
        """
        known = {one.name: one for one in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                raise InputError(f"governor: {name}", found="a field of no meaning", expected=f"one of {sorted(known)}")
            values[name] = _band(name, value) if "Band" in str(known[name].type) else value
        if "actions" in values:
            if not isinstance(values["actions"], list | tuple) or not all(
                isinstance(a, str) for a in values["actions"]
            ):
                raise InputError("governor: actions", found=repr(values["actions"]), expected="a list of names")
            values["actions"] = tuple(values["actions"])
        return cls(**values)


def _band(name: str, value: Any) -> Band | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"trouble", "fine"}:
        raise InputError(f"governor: {name}", found=repr(value), expected="trouble and fine")
    return Band(value["trouble"], value["fine"])


def _number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(name, found=repr(value), expected=f"{low:g} to {high:g}")
