"""Boards as files, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PI = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48312\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1500000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq": "1500000\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "proc/meminfo": "MemTotal:        4000000 kB\nMemFree: 1 kB\nMemAvailable:    2000000 kB\n",
    "proc/pressure/memory": "some avg10=1.50 avg60=0.10 avg300=0.00 total=5\nfull avg10=0.25 avg60=0.00 total=1\n",
    "proc/pressure/cpu": "some avg10=12.00 avg60=9.00 avg300=3.00 total=99\n",
}


def write(root: Path, files: Mapping[str, str]) -> None:
    """Under ``root``."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
