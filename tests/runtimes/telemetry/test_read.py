"""Whole boards, as files under a root folder: all of it, parts of it, nothing of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edgekit.runtimes import Telemetry
from edgekit.runtimes.telemetry.read import run_command
from edgekit.runtimes.telemetry.readings import Pressure, Readings
from tests.runtimes.telemetry_boards import PI, write

CPU = "sys/devices/system/cpu"


def test_this_machine() -> None:
    seen = Telemetry().read()
    assert seen.memory_total_mb is None or seen.memory_total_mb > 100
    assert seen.temperature_c is None or -60 <= seen.temperature_c <= 200


def test_a_board_that_shows_nothing(tmp_path: Path) -> None:
    assert Telemetry(tmp_path).read() == Readings()
    assert Telemetry(tmp_path / "absent").read() == Readings()


def test_a_raspberry_pi(tmp_path: Path) -> None:
    write(tmp_path, PI)
    seen = Telemetry(tmp_path).read()
    assert seen.temperature_c == 48.312 and seen.temperatures == {"cpu-thermal": 48.312}
    assert (seen.frequency_mhz, seen.frequency_max_mhz) == (600, 1500)
    assert (
        seen.throttle is not None and seen.throttle.names == ["under_voltage", "throttled"] and seen.throttle.occurred
    )
    assert seen.memory_available_mb == pytest.approx(2048) and seen.memory_total_mb == pytest.approx(4096)
    assert seen.pressure == {"memory": Pressure(1.5, 0.25), "cpu": Pressure(12.0)}
    assert seen.power_w is None


def tool(root: Path, name: str, script: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def test_vcgencmd_where_no_file_says_it(tmp_path: Path) -> None:
    answers = 'case "$1" in measure_temp) echo "temp=61.3\'C";; get_throttled) echo throttled=0x50008;; esac'
    tool(tmp_path, "usr/bin/vcgencmd", answers)
    seen = Telemetry(tmp_path).read()
    assert seen.temperature_c == 61.3
    assert seen.throttle is not None and seen.throttle.names == ["soft_limit"]
    write(tmp_path, PI)
    assert Telemetry(tmp_path).read().temperature_c == 48.312, "a file costs less than a process"


def test_tools_are_only_asked_for_what_no_file_says(tmp_path: Path) -> None:
    asked: list[str] = []

    def run(command: list[str]) -> str:
        asked.append(command[1])
        return "throttled=0x0"

    write(tmp_path, PI | {"usr/bin/vcgencmd": ""})
    telemetry = Telemetry(tmp_path, run)  # type: ignore[arg-type]
    assert telemetry.read().throttle is not None
    assert asked == []
    (tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled").unlink()
    assert telemetry.read().throttle is not None
    assert asked == ["get_throttled"]


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "printf '\\377\\376'", "sleep 60"])
def test_a_tool_that_fails(tmp_path: Path, script: str) -> None:
    tool(tmp_path, "usr/bin/vcgencmd", script)
    seen = Telemetry(tmp_path, run=quick).read()
    assert seen.temperature_c is None and seen.throttle is None


def quick(command: list[str]) -> str:
    """As the default, but for the hanging one, whose second need not be waited for twice."""
    return "" if "sleep" in Path(command[0]).read_text() else run_command(command)


def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    tool(tmp_path, "hang", "exec sleep 60")
    assert run_command([str(tmp_path / "hang")]) == ""
    assert run_command([str(tmp_path / "absent")]) == ""


def test_a_jetson(tmp_path: Path) -> None:
    chip = "sys/class/hwmon/hwmon3"
    write(
        tmp_path,
        {
            f"{chip}/name": "ina3221\n",
            f"{chip}/in1_label": "VDD_IN\n", f"{chip}/in1_input": "5000\n", f"{chip}/curr1_input": "1200\n",
            f"{chip}/in2_label": "VDD_CPU_GPU_CV\n", f"{chip}/in2_input": "5000\n", f"{chip}/curr2_input": "300\n",
            f"{chip}/in3_label": "VDD_SOC\n", f"{chip}/in3_input": "5000\n",
            "sys/class/hwmon/hwmon1/name": "pwm_fan\n",
            "sys/class/thermal/thermal_zone0/type": "CPU-therm\n", "sys/class/thermal/thermal_zone0/temp": "52000\n",
            "sys/class/thermal/thermal_zone1/type": "PMIC-Die\n", "sys/class/thermal/thermal_zone1/temp": "100000\n",
            "sys/class/thermal/thermal_zone2/type": "CV0-therm\n", "sys/class/thermal/thermal_zone2/temp": "-256000\n",
        },
    )  # fmt: skip
    seen = Telemetry(tmp_path).read()
    assert seen.rails == {"VDD_IN": 6.0, "VDD_CPU_GPU_CV": 1.5}
    assert seen.power_w == 6.0
    assert seen.temperature_c == 52.0


def test_an_android_phone(tmp_path: Path) -> None:
    tool(tmp_path, "system/bin/dumpsys", "echo 'Temperature{mValue=41.5, mType=3, mName=SKIN, mStatus=2}'")
    seen = Telemetry(tmp_path).read()
    assert seen.temperature_c == 41.5
    assert seen.throttle is not None and seen.throttle.throttled


@pytest.mark.parametrize(("kind", "state", "capped"), [("cpufreq-cpu0", "2", True), ("Processor", "0", False)])
def test_passive_cooling(tmp_path: Path, kind: str, state: str, capped: bool) -> None:
    device = "sys/class/thermal/cooling_device0"
    write(tmp_path, {f"{device}/type": kind, f"{device}/cur_state": state})
    write(
        tmp_path,
        {"sys/class/thermal/cooling_device1/type": "pwm-fan", "sys/class/thermal/cooling_device1/cur_state": "3"},
    )
    seen = Telemetry(tmp_path).read().throttle
    assert seen is not None and seen.capped == capped


@pytest.mark.parametrize("name", sorted(PI))
@pytest.mark.parametrize("content", ["", "nonsense", "-", "99999999999999999999999", "\x00\xff", None])
def test_any_file_may_be_damaged_or_absent(tmp_path: Path, name: str, content: str | None) -> None:
    whole = Telemetry(tmp_path)
    write(tmp_path, PI)
    if content is None:
        os.unlink(tmp_path / name)
        (tmp_path / name).mkdir()  # reading it is an error, as of a driver that answers EINVAL
    else:
        (tmp_path / name).write_text(content)
    seen = whole.read()
    assert seen.temperature_c in (None, 48.312)
    assert seen.memory_total_mb in (None, 4096)
    assert seen.frequency_max_mhz is None or seen.frequency_max_mhz > 0
