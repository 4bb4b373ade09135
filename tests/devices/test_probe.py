from __future__ import annotations

from pathlib import Path

from edgekit.devices.probe import environment, memory_limit_mb, temperature_c
from edgekit.runtimes.isa import cpu_model


def test_this_machine() -> None:
    seen = environment()
    assert seen["cpu"]
    assert 1 <= seen["usable_cpus"] <= seen["cpus"]
    assert seen["memory_mb"] > 100
    assert seen["versions"]["numpy"]


def board(root: Path) -> Path:
    """The /proc and /sys of a Raspberry Pi 4, as far as they are read."""
    files = {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n\n"
        "Hardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
        "proc/meminfo": "MemTotal:        3884368 kB\nMemFree: 1 kB\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/class/thermal/thermal_zone1/temp": "51000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1500000\n",
        "sys/fs/cgroup/memory.max": "536870912\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_board(tmp_path: Path) -> None:
    seen = environment(board(tmp_path))
    assert seen["cpu"] == "BCM2835"
    assert seen["flags"] == ["asimd"]
    assert seen["memory_mb"] == 3977.6
    assert seen["governor"] == "ondemand"
    assert seen["frequency_mhz"] == {"current": 600.0, "max": 1500.0}
    assert temperature_c(tmp_path) == 51.0
    assert memory_limit_mb(tmp_path) == 536.9
    assert seen["os"] == "Debian GNU/Linux 12 (bookworm)"


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    seen = environment(tmp_path)
    assert seen["memory_mb"] is None
    assert seen["governor"] is None
    assert seen["temperature_c"] is None
    assert cpu_model(tmp_path)
