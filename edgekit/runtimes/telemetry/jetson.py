"""Jetson: power of the INA3221 monitors, and lines of tegrastats."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.runtimes.telemetry.linux import text
from edgekit.runtimes.telemetry.readings import Readings, hottest, input_power, number, plausible

_RAM = re.compile(r"\bRAM (\d{1,9})/(\d{1,9})MB\b")
_CORES = re.compile(r"\bCPU \[([^\]]*)\]")
_CLOCK = re.compile(r"\d{1,3}%@(\d{1,6})")
_HEAT = re.compile(r"(?<!\S)([A-Za-z]\w*)@(-?\d{1,4}(?:\.\d{1,6})?)C(?!\S)")
_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d{1,9})(?:mW)?/(\d{1,9})(?:mW)?(?!\S)")


def rails(root: Path) -> dict[str, float]:
    """W by the label of each INA3221 channel: volts times amperes."""
    found: dict[str, float] = {}
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if (text(chip / "name") or "") != "ina3221":
            continue
        for channel in "123":
            volts = number(text(chip / f"in{channel}_input"))
            amperes = number(text(chip / f"curr{channel}_input"))
            if volts is not None and amperes is not None and volts >= 0 and amperes >= 0:
                label = text(chip / f"in{channel}_label") or f"{chip.name}.{channel}"
                found[f"{chip.name}.{channel}" if label in found else label] = volts * amperes / 1e6
    return found


def parse_tegrastats(line: str) -> Readings:
    """One line of ``tegrastats``; what it lacks is None. Rails and sensors differ by release: all are taken.

    Memory there is counted in 2**20 bytes, power in mW (now/average), clocks in MHz; a core that is ``off`` has none.
    """
    ram, cores = _RAM.search(line), _CORES.search(line)
    clocks = [float(value) for value in _CLOCK.findall(cores[1])] if cores else []
    heat = {name: float(value) for name, value in _HEAT.findall(line) if plausible(float(value)) is not None}
    power = {name: float(now) / 1000 for name, now, _ in _RAIL.findall(line)}
    used, total = (float(ram[1]), float(ram[2])) if ram else (None, None)
    known = used is not None and total is not None and used <= total
    return Readings(
        temperature_c=hottest(heat),
        temperatures=heat,
        frequency_mhz=min(clocks, default=None),
        memory_available_mb=(total - used) * 2**20 / 1e6 if known and total is not None and used is not None else None,
        memory_total_mb=None if total is None else total * 2**20 / 1e6,
        power_w=input_power(power),
        rails=power,
    )
