"""Android: what ``dumpsys thermalservice`` says."""

from __future__ import annotations

import re

from edgekit.runtimes.telemetry.readings import Readings, Throttle, hottest, plausible

TOOL = "system/bin/dumpsys"
_CURRENT = "Current temperatures from HAL:"
_BLOCK = re.compile(r"Temperature\{([^{}]*)\}")
_STATUS = re.compile(r"^\s*Thermal Status: (\d)\s*$", re.MULTILINE)
_NOT_HEAT = ("6", "7", "8")  # mType of the battery's voltage, current and charge (android.os.Temperature)
_NUMBER = re.compile(r"-?\d{1,4}(?:\.\d{1,9})?")
_MODERATE = 2  # of none, light, moderate, severe...: from here on the system throttles (android.os.PowerManager)


def parse_thermalservice(dump: str) -> Readings:
    """Temperatures by sensor name, and whether Android throttles. What the dump lacks is None.

    The section of current temperatures counts where there is one; the cached ones may be old.
    """
    _, found, rest = dump.partition(_CURRENT)
    heat: dict[str, float] = {}
    severity = [int(status) for status in _STATUS.findall(dump)]
    for block in _BLOCK.findall(_section(rest) if found else dump):
        fields = dict(part.strip().split("=", 1) for part in block.split(",") if "=" in part)
        name, value, status = fields.get("mName", ""), fields.get("mValue", ""), fields.get("mStatus", "")
        celsius = plausible(float(value)) if _NUMBER.fullmatch(value) else None
        if name and celsius is not None and fields.get("mType", "") not in _NOT_HEAT:
            heat[name] = max(celsius, heat.get(name, celsius))
        if len(status) == 1 and status in "0123456":
            severity.append(int(status))
    throttle = Throttle(throttled=max(severity) >= _MODERATE) if severity else None
    return Readings(temperature_c=hottest(heat), temperatures=heat, throttle=throttle)


def _section(rest: str) -> str:
    """The temperatures up to the next heading."""
    lines = []
    for line in rest.splitlines():
        if line.strip() and "Temperature{" not in line:
            break
        lines.append(line)
    return "\n".join(lines)
