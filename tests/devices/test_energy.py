"""Energy is told where a sensor tells it, and nowhere else."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgekit.devices import energy
from edgekit.devices.energy import Meter
from tests.runtimes.telemetry_boards import write

RAPL = "sys/class/powercap/intel-rapl:"
PACKAGES = {
    f"{RAPL}0/name": "package-0\n", f"{RAPL}0/energy_uj": "1000000\n", f"{RAPL}0/max_energy_range_uj": "5000000\n",
    f"{RAPL}1/name": "psys\n", f"{RAPL}1/energy_uj": "1\n", f"{RAPL}1/max_energy_range_uj": "5000000\n",
    f"{RAPL}0:0/name": "core\n", f"{RAPL}0:0/energy_uj": "1\n", f"{RAPL}0:0/max_energy_range_uj": "5000000\n",
}  # fmt: skip
MONITOR = "sys/class/hwmon/hwmon3/"
INA3221 = {
    f"{MONITOR}name": "ina3221\n",
    f"{MONITOR}in1_label": "VDD_IN\n",
    f"{MONITOR}in1_input": "5000\n",
    f"{MONITOR}curr1_input": "2000\n",
}


def test_without_a_sensor_nothing_is_told(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    assert (meter.source, meter.around(lambda: 7)) == ("", (7, None))


@pytest.mark.parametrize(("after", "mj"), [(1_250_000, 250.0), (500_000, 4500.0)], ids=["on", "it began again"])
def test_counters_of_a_processor(tmp_path: Path, after: int, mj: float) -> None:
    write(tmp_path, PACKAGES)
    meter = Meter(tmp_path)
    assert meter.source == "RAPL package-0"
    counter = tmp_path / f"{RAPL}0/energy_uj"
    assert meter.around(lambda: counter.write_text(f"{after}\n") and "done") == ("done", mj)
    counter.unlink()
    assert meter.around(lambda: None) == (None, None)


def test_counters_that_may_not_be_read_are_none(tmp_path: Path) -> None:
    write(tmp_path, {**PACKAGES, f"{RAPL}0/energy_uj": ""})
    assert Meter(tmp_path).source == ""


def test_a_power_monitor_is_looked_at_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, INA3221)
    looks, enough, clock = list[float](), threading.Event(), iter(range(1_000_000))
    real = energy.rails

    def rails(root: Path) -> dict[str, float]:
        looks.append(0.0)
        if len(looks) > 5:
            enough.set()
        return real(root)

    meter = Meter(tmp_path)
    monkeypatch.setattr(energy, "rails", rails)
    monkeypatch.setattr(energy.time, "perf_counter", lambda: float(next(clock)))
    done, mj = meter.around(lambda: enough.wait(60))
    assert done and meter.source.startswith("power monitor")
    seconds = len(looks) - 1  # each look moves the clock on by one
    assert mj == pytest.approx(10.0 * seconds * 1000)
