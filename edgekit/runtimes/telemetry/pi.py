"""Raspberry Pi: the firmware's throttle flags and temperature."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.runtimes.telemetry.linux import text
from edgekit.runtimes.telemetry.readings import Throttle, number, plausible

TOOLS = ("usr/bin/vcgencmd", "opt/vc/bin/vcgencmd")
_SYSFS = "sys/devices/platform/soc/soc:firmware/get_throttled"  # hexadecimal, without the 0x
_FLAGS = re.compile(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})")
_TEMPERATURE = re.compile(r"temp=(-?\d{1,4}(?:\.\d{1,9})?)'C")


def throttled_file(root: Path) -> Throttle | None:
    """The flags where the kernel has a file of them."""
    return parse_throttled(text(root / _SYSFS) or "")


def parse_throttled(line: str) -> Throttle | None:
    """``throttled=0x50000`` as vcgencmd says it, or ``50000`` as the kernel does.

    Bits 0 to 3: under-voltage, clock capped, throttled, soft temperature limit, now; 16 to 19: the same, before
    (Raspberry Pi documentation, vcgencmd get_throttled).
    """
    match = _FLAGS.fullmatch(line.strip())
    if match is None:
        return None
    bits = int(match[1], 16)
    return Throttle(bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8), bool(bits >> 16 & 15))


def parse_temperature(line: str) -> float | None:
    """``temp=42.2'C``, °C."""
    match = _TEMPERATURE.fullmatch(line.strip())
    return plausible(number(match[1])) if match else None
