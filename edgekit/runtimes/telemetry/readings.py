"""What was read of a board at one moment. Whatever it does not show is None, never a guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COLDEST, HOTTEST = -60.0, 200.0  # °C; sensors that are switched off read -256, 0 K or nonsense


@dataclass(frozen=True)
class Throttle:
    """Why the board slows itself down now, and whether it ever did since it was started."""

    under_voltage: bool = False
    capped: bool = False  # the clock has an upper bound below its own
    throttled: bool = False
    soft_limit: bool = False  # the soft temperature limit is reached
    occurred: bool = False  # any of them, before

    @property
    def now(self) -> bool:
        """Any of the four at this moment."""
        return self.under_voltage or self.capped or self.throttled or self.soft_limit

    @property
    def names(self) -> list[str]:
        """Those that hold now."""
        flags = ("under_voltage", "capped", "throttled", "soft_limit")
        return [name for name in flags if getattr(self, name)]


@dataclass(frozen=True)
class Pressure:
    """Share of the last 10 s in which tasks waited for a resource, in %: ``some`` of them, or all of them (``full``).

    Linux's pressure stall information (Documentation/accounting/psi.rst).
    """

    some: float
    full: float | None = None


@dataclass(frozen=True)
class Readings:
    """One look at the board.

    ``temperature_c``: the hottest of ``temperatures`` (by sensor, °C); ``frequency_mhz``: the slowest core's clock, of
    at most ``frequency_max_mhz``; ``memory_available_mb`` of ``memory_total_mb`` (10**6 bytes); ``pressure``: by "cpu",
    "memory", "io"; ``power_w``: what the board draws, of ``rails`` (by name, W).
    """

    temperature_c: float | None = None
    temperatures: Mapping[str, float] = field(default_factory=dict)
    frequency_mhz: float | None = None
    frequency_max_mhz: float | None = None
    throttle: Throttle | None = None
    memory_available_mb: float | None = None
    memory_total_mb: float | None = None
    pressure: Mapping[str, Pressure] = field(default_factory=dict)
    power_w: float | None = None
    rails: Mapping[str, float] = field(default_factory=dict)


def hottest(temperatures: Mapping[str, float]) -> float | None:
    """The highest, but for PMIC sensors: on Jetsons they always read 100 °C."""
    return max((value for name, value in temperatures.items() if not name.upper().startswith("PMIC")), default=None)


def input_power(rails: Mapping[str, float]) -> float | None:
    """What goes into the board: the rail that says so, else the largest, for the others are its parts."""
    for name, value in rails.items():
        if name.upper() in ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0", "VIN"):
            return value
    return max(rails.values(), default=None)


def number(text: str | None) -> float | None:
    """A decimal number as sysfs files hold it: digits, perhaps a sign or a point. Anything else is None."""
    text = (text or "").strip()
    digits = text.removeprefix("-").replace(".", "", 1)
    return float(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None


def plausible(celsius: float | None) -> float | None:
    """``celsius``, or None for what no board survives."""
    return celsius if celsius is not None and COLDEST <= celsius <= HOTTEST else None
