"""Any Linux: thermal zones, clocks, passive cooling, memory and pressure, out of /sys and /proc."""

from __future__ import annotations

from pathlib import Path

from edgekit.runtimes.telemetry.readings import Pressure, Throttle, number, plausible

_THERMAL = "sys/class/thermal"
_LONGEST = 1 << 16  # characters read of a file: the ones here are short


def text(path: Path) -> str | None:
    """What the file says; None where it is absent or its driver answers with an error."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST).strip()
    except OSError:
        return None


def temperatures(root: Path) -> dict[str, float]:
    """°C by the zone's type, or its folder's name where two have one type."""
    found: dict[str, float] = {}
    for zone in sorted((root / _THERMAL).glob("thermal_zone*")):
        value = number(text(zone / "temp"))
        celsius = plausible(None if value is None else value / 1000)
        if celsius is not None:
            name = text(zone / "type") or zone.name
            found[zone.name if name in found else name] = celsius
    return found


def frequency_mhz(root: Path) -> tuple[float | None, float | None]:
    """The slowest core's clock, and the highest that the hardware allows any core."""
    now, most = [], []
    for core in (root / "sys/devices/system/cpu").glob("cpu[0-9]*"):
        current = number(text(core / "cpufreq/scaling_cur_freq"))
        allowed = number(text(core / "cpufreq/cpuinfo_max_freq"))
        now += [] if current is None else [current / 1000]
        most += [] if allowed is None else [allowed / 1000]
    return min(now, default=None), max(most, default=None)


def cooling(root: Path) -> Throttle | None:
    """Whether the kernel holds a processor's clock down (passive cooling). Fans are no throttle."""
    states = []
    for device in (root / _THERMAL).glob("cooling_device*"):
        kind = text(device / "type") or ""
        state = number(text(device / "cur_state"))
        if state is not None and ("cpufreq" in kind or kind == "Processor"):
            states.append(state)
    return Throttle(capped=any(state > 0 for state in states)) if states else None


def memory_mb(root: Path) -> tuple[float | None, float | None]:
    """Available and total, 10**6 bytes."""
    found = meminfo(text(root / "proc/meminfo") or "")
    return found.get("MemAvailable"), found.get("MemTotal")


def meminfo(content: str) -> dict[str, float]:
    """/proc/meminfo: its fields in kB (of 1,024 bytes), as MB of 10**6 bytes."""
    found = {}
    for line in content.splitlines():
        name, _, rest = line.partition(":")
        parts = rest.split()
        value = number(parts[0]) if len(parts) == 2 and parts[1] == "kB" else None
        if value is not None and value >= 0:
            found[name.strip()] = value * 1024 / 1e6
    return found


def pressure(root: Path) -> dict[str, Pressure]:
    """By resource, those of "cpu", "memory" and "io" that the kernel tells."""
    named = ((name, psi(text(root / "proc/pressure" / name) or "")) for name in ("cpu", "memory", "io"))
    return {name: found for name, found in named if found is not None}


def psi(content: str) -> Pressure | None:
    """One file of /proc/pressure; None without a line ``some avg10=...``."""
    shares: dict[str, float] = {}
    for line in content.splitlines():
        kind, *fields = line.split()[:2] or [""]
        key, _, rest = (fields[0] if fields else "").partition("=")
        value = number(rest)
        if key == "avg10" and value is not None and 0 <= value <= 100:
            shares[kind] = value
    return Pressure(shares["some"], shares.get("full")) if "some" in shares else None
