"""A long run, on boards that are files: what it tells of time and heat, and when it does not begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import open_bundle
from edgekit.devices import profile, select
from edgekit.devices.profiler import Profile
from edgekit.devices.sustain import SLICES, check_cool, set_point_c, sustain
from edgekit.errors import InputError
from tests.runtimes import tiny
from tests.runtimes.telemetry_boards import PI, write

HEAT = "sys/class/thermal/thermal_zone0/temp"
TREE = "proc/device-tree/compatible"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bundle(tmp_path_factory.mktemp("sustain") / "tiny.edge")


@pytest.fixture
def job(bundle: Path) -> dict[str, Any]:
    return select.jobs(open_bundle(bundle), [1], [8])[0]


def test_the_series_of_a_board(job: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, PI)
    found = sustain(job, 0.6, root=tmp_path)
    series = found["series"]
    assert {len(values) for values in series.values() if values} == {len(series["t_s"])}
    assert 2 <= len(series["t_s"]) <= SLICES
    assert series["t_s"] == sorted(series["t_s"])
    assert found["seconds"] == series["t_s"][-1] >= 0.6
    assert set(series["temperature_c"]) == {48.312} and found["start_c"] == 48.312
    assert set(series["frequency_mhz"]) == {600.0}
    assert set(series["throttled"]) == {True} and found["throttle_flags"] == ["throttled", "under_voltage"]
    assert series["power_w"] is None
    assert found["ratio"] == pytest.approx(found["last_minute_p50_ms"] / found["first_minute_p50_ms"], abs=5e-3)
    assert found["runs"] > 10 and found["window_s"] == pytest.approx(0.2)


def test_a_machine_that_tells_nothing(job: dict[str, Any], tmp_path: Path) -> None:
    found = sustain(job, 0.2, root=tmp_path)
    assert found["throttle_flags"] is None and found["start_c"] is None
    assert [name for name, values in found["series"].items() if values is None] == [
        "temperature_c", "frequency_mhz", "throttled", "power_w"
    ]  # fmt: skip


def test_the_set_point_is_the_boards(tmp_path: Path) -> None:
    assert set_point_c(tmp_path) == 70
    write(tmp_path, {TREE: "raspberrypi,5-model-b\0brcm,bcm2712\0"})
    assert set_point_c(tmp_path) == 80
    write(tmp_path, {TREE: "raspberrypi,3-model-b-plus\0brcm,bcm2837\0"})
    assert set_point_c(tmp_path) == 60


def test_a_hot_board_is_refused_before_anything_runs(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path, {**PI, HEAT: "70100\n"})
    with pytest.raises(InputError, match=r"70\.1 °C; expected at most 70\.0 .*--allow-hot"):
        profile(bundle, lengths=[8], runs=1, sustain=0.2, root=tmp_path)
    check_cool(tmp_path, allow_hot=True)
    write(tmp_path, {HEAT: "69900\n"})
    check_cool(tmp_path)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e9, float("nan")])
def test_times_that_are_none(bundle: Path, seconds: float) -> None:
    with pytest.raises(InputError, match="--sustain"):
        profile(bundle, lengths=[8], runs=1, sustain=seconds)


def test_a_profile_ends_with_it(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path, {**PI, HEAT: "75000\n"})
    found: Profile = profile(
        bundle, lengths=[8, 16], runs=2, seconds=0, warmup=1, sustain=0.2, allow_hot=True, root=tmp_path
    )
    assert found.sustain is not None
    assert (found.sustain["file"], found.sustain["length"], found.sustain["start_c"]) == (tiny.ONNX, 16, 75.0)
