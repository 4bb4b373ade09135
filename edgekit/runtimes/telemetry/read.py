"""One look at the board, by whatever means it has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from edgekit.runtimes.telemetry import android, jetson, linux, pi
from edgekit.runtimes.telemetry.readings import Readings, Throttle, hottest, input_power

_TIMEOUT_S = 1.0
Run = Callable[[Sequence[str]], str]


class Telemetry:
    """Reads a board. ``root``: the folder where its /sys, /proc and /usr are; ``run``: command line to its output.

    A tool (vcgencmd on a Raspberry Pi, dumpsys on Android) is asked only for what no file says, for each call starts
    a process. Nothing here raises: what is absent, damaged or too slow is None.
    """

    def __init__(self, root: str | Path = "/", run: Run | None = None) -> None:
        self.root = Path(root)
        self._run = run_command if run is None else run
        self._vcgencmd = next((str(self.root / name) for name in pi.TOOLS if (self.root / name).is_file()), None)
        dumpsys = self.root / android.TOOL
        self._dumpsys = str(dumpsys) if dumpsys.is_file() else None

    def read(self) -> Readings:
        """What the board shows now. Some 0.1 ms a dozen files; a tool costs some 5 ms."""
        root = self.root
        heat = linux.temperatures(root)
        throttle = _first(pi.throttled_file(root), linux.cooling(root))
        if self._vcgencmd is not None:
            if pi.throttled_file(root) is None:
                throttle = _first(pi.parse_throttled(self._run([self._vcgencmd, "get_throttled"])), throttle)
            if not heat:
                celsius = pi.parse_temperature(self._run([self._vcgencmd, "measure_temp"]))
                heat = {} if celsius is None else {"vcgencmd": celsius}
        elif self._dumpsys is not None:
            seen = android.parse_thermalservice(self._run([self._dumpsys, "thermalservice"]))
            heat, throttle = {**heat, **seen.temperatures}, _first(seen.throttle, throttle)
        frequency, fastest = linux.frequency_mhz(root)
        available, total = linux.memory_mb(root)
        rails = jetson.rails(root)
        return Readings(
            temperature_c=hottest(heat),
            temperatures=heat,
            frequency_mhz=frequency,
            frequency_max_mhz=fastest,
            throttle=throttle,
            memory_available_mb=available,
            memory_total_mb=total,
            pressure=linux.pressure(root),
            power_w=input_power(rails),
            rails=rails,
        )


def run_command(command: Sequence[str]) -> str:
    """Its standard output; "" where it fails or takes longer than a second."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _first(one: Throttle | None, other: Throttle | None) -> Throttle | None:
    return other if one is None else one
