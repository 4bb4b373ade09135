"""The telemetry files change, and the stream does as the governor says."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import EngineError, InputError
from edgekit.runtimes import Governor, GovernorSettings, Ladder, Rung, Stream, Telemetry
from edgekit.runtimes.model import Model
from edgekit.runtimes.realtime.controller import Controller
from edgekit.runtimes.realtime.settings import Band
from edgekit.runtimes.telemetry.readings import Pressure, Readings, Throttle
from tests.runtimes.streams import Clock, Paced

WAIT = 30.0
FAST = GovernorSettings(
    temperature_c=Band(80, 70), critical_c=95, period_s=0.01, smooth=3, settle_s=0.05, recover_s=0.15
)

STEPPED = replace(FAST, smooth=1)


def heat(root: Path, celsius: float) -> None:
    """What the board's sensor shows, written as the kernel does."""
    file = root / "sys/class/thermal/thermal_zone0/temp"
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(f"{round(1000 * celsius)}\n")
    new.replace(file)


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


class Camera:
    """Brings a text every few ms, in a thread, and keeps the results."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.results = stream, list[Any]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def _loop(self) -> None:
        while not self._stop.wait(0.003):
            self.stream.submit("a charming film", callback=self.results.append)

    def __enter__(self) -> Camera:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_stream_on_a_board_that_gets_hot_and_cool_again(model: Model, int8: Model, tmp_path: Path) -> None:
    heat(tmp_path, 55)
    loaded = []

    def lean() -> Model:
        loaded.append(int8)
        return int8

    ladder = Ladder([Rung("fp32", model, lean=lean), Rung("int8", int8)])
    with Stream(ladder) as stream, Camera(stream) as camera:
        until(lambda: len(camera.results) > 20)
        with Governor(stream, FAST, Telemetry(tmp_path).read) as governor:
            until(lambda: governor.readings is not None)
            assert governor.stage == 0
            heat(tmp_path, 84)
            until(lambda: governor.stage >= 1)
            assert stream.stats().rate_limit_hz is not None
            until(lambda: governor.stage == 4)
            paused_at = stream.stats()
            assert paused_at.paused and paused_at.level == 1 and loaded == [int8]
            until(lambda: stream.stats().dropped["paused"] > 3)
            heat(tmp_path, 60)
            until(lambda: governor.stage == 0)
            answers = stream.stats().answers
            until(lambda: stream.stats().answers > answers)
            after = stream.stats()
            assert (after.paused, after.level, after.rate_limit_hz) == (False, 0, None)
    log = list(governor.log)
    down = ["rate:", "ladder: down to int8", "threads: fewer", "pause"]
    up = ["undone: pause", "undone: threads", "undone: ladder: down to int8", "undone: rate"]
    assert len(log) == 8
    assert all(event.action.startswith(name) for event, name in zip(log, down + up, strict=True))
    assert all(event.reason == "temperature_c 84.0, trouble from 80" for event in log[:4])
    assert all(event.reason.startswith("all fine for") for event in log[4:])
    assert [event.readings.temperature_c for event in log if event.readings] == [84.0] * 4 + [60.0] * 4
    assert [event.at for event in log] == sorted(event.at for event in log)


def test_the_rate_goes_down_to_what_was_asked(tmp_path: Path) -> None:
    """Half of the rate, and the drops say why."""
    clock = Clock()
    with Stream(Paced(clock, model_s=0.001), deadline_ms=50, clock=clock, policy="queue") as stream:
        for number in range(500):
            assert stream.run(number).ok
            clock.now += 0.009
        heat(tmp_path, 85)
        governor = Governor(stream, STEPPED, Telemetry(tmp_path).read, clock)
        governor.step()
        limit = stream.stats().rate_limit_hz
        assert limit == pytest.approx(50, rel=0.05)
        assert "from 100" in governor.log[0].action
        governor.close()
        assert stream.stats().rate_limit_hz is None
        assert governor.log[-1].reason == "the governor ended"


@pytest.mark.slow
def test_a_limited_rate_is_kept(model: Model) -> None:
    with Stream(model, policy="all") as stream:
        stream.run("warm")
        stream.limit_rate(100)
        start = time.monotonic()
        for future in [stream.submit("a film") for _ in range(10)]:
            assert future.result(WAIT).ok
        assert time.monotonic() - start >= 0.08
        stream.limit_rate(None)
        assert stream.run("a film").ok
    with Stream(model, policy="queue", deadline_ms=200) as stream:
        stream.run("warm")
        stream.limit_rate(0.5)
        results = [future.result(WAIT) for future in [stream.submit("a film") for _ in range(2)]]
        assert results[1].dropped == "rate", "it could have met its deadline"


def test_a_pause_lets_the_items_of_policy_all_wait(model: Model) -> None:
    with Stream(model, policy="all") as stream:
        stream.pause()
        future = stream.submit("a film")
        assert not future.done()
        stream.pause(False)
        assert future.result(WAIT).ok
    stream = Stream(model, policy="all")
    stream.pause()
    future = stream.submit("a film")
    stream.close(drain=True)
    assert future.result(WAIT).dropped == "closed"


def test_critical_heat_does_everything_at_once_and_pauses_first(tmp_path: Path) -> None:
    clock = Clock()
    ladder = Ladder([Rung("a", Paced(clock)), Rung("b", Paced(clock))])
    with Stream(ladder, clock=clock) as stream:
        stream.run(1)
        heat(tmp_path, 99)
        governor = Governor(stream, STEPPED, Telemetry(tmp_path).read, clock)
        assert governor.step() == 3
        assert [event.action.split(":")[0] for event in governor.log] == ["pause", "ladder", "rate"]
        assert "critical from 95" in governor.log[0].reason
        governor.close()
        assert not stream.stats().paused


def test_what_fails_is_in_the_log_and_the_governor_goes_on(tmp_path: Path) -> None:
    clock = Clock()

    def lean() -> Paced:
        raise EngineError("model", found="no memory")

    with Stream(Ladder([Rung("a", Paced(clock), lean=lean)]), clock=clock) as stream:
        heat(tmp_path, 85)
        governor = Governor(stream, STEPPED, Telemetry(tmp_path).read, clock)
        for _ in range(3):
            governor.step()
            clock.now += 1
        assert [event.action for event in governor.log] == ["nothing to do: rate", "failed: threads", "pause"]
        assert "no memory" in governor.log[1].reason
        governor.close()


def test_a_sensor_that_throws_does_not_end_the_governor(model: Model) -> None:
    reads = []

    def read() -> Readings:
        reads.append(1)
        if len(reads) < 4:
            raise OSError("bus error")
        return Readings(temperature_c=99)

    with Stream(model) as stream, Governor(stream, FAST, read) as governor:
        until(lambda: stream.stats().paused)
        assert [event.action for event in governor.log][:3] == ["failed: reading"] * 3


def run(controller: Controller, temperatures: list[float], seconds: float = 1.0) -> list[int]:
    return [
        controller.decide(Readings(temperature_c=value), seconds * number) for number, value in enumerate(temperatures)
    ]


def changes(stages: list[int]) -> int:
    return int(np.count_nonzero(np.diff([0, *stages])))


@pytest.mark.parametrize("seed", range(5))
def test_noise_makes_no_oscillation(seed: int) -> None:
    """An hour at one reading a second, two degrees of noise. Each level with the most changes that it may make."""
    rng = np.random.default_rng(seed)
    for level, most in ((72.0, 0), (76.0, 5), (82.0, 5)):
        noisy = list(level + rng.normal(0, 2, 3600))
        assert changes(run(Controller(GovernorSettings(), 5), noisy)) <= most


def test_a_slow_swing_is_followed_and_no_more() -> None:
    """Three times from 65 to 85 °C and back in 20 minutes each, with noise: once down and once up each time."""
    rng = np.random.default_rng(0)
    wave = [75 - 10 * math.cos(2 * math.pi * second / 1200) + rng.normal(0, 1.5) for second in range(3600)]
    stages = run(Controller(GovernorSettings(critical_c=None), 3), wave)
    assert max(stages) == 3 and stages[-1] == 0
    assert changes(stages) == 3 * (3 + 3)


def test_trouble_that_comes_back_makes_it_more_patient() -> None:
    """A board that is too hot at stage 0 and cool at stage 1: the more often it fails, the rarer it tries."""
    controller = Controller(GovernorSettings(), 1)
    stages: list[int] = []
    for second in range(3600):
        stages.append(controller.decide(Readings(temperature_c=66.0 if controller.stage else 79.0), float(second)))
    assert changes(stages) <= 40, "without it, every 33 s twice: some 200"


@pytest.mark.parametrize(("full_load_c", "most"), [(73.0, 0), (90.0, 12), (110.0, 20)])
def test_a_board_whose_heat_follows_its_load(full_load_c: float, most: int) -> None:
    """Half an hour of a board, in no time: 45 °C idle, a time constant of a minute, a degree of noise, and a model
    that would run for 0.8 s of every second. The rate goes down within the time constant, and no swing remains."""
    clock, rng, celsius, hottest = Clock(), np.random.default_rng(0), 45.0, 0.0
    crossed = reduced = None
    shown = Readings()
    with Stream(Paced(clock, model_s=0.2), clock=clock) as stream:
        governor = Governor(stream, GovernorSettings(), lambda: shown, clock)
        for second in range(1800):
            end, ran, stats = clock() + 1, 0, stream.stats()
            every_s = max(0.25, 1 / (stats.rate_limit_hz or 4.0))
            while not stats.paused and clock() + every_s <= end + 1e-9:
                assert stream.run(ran).ok
                clock.now += every_s - 0.2
                ran += 1
            clock.now = end
            target = 45 + (full_load_c - 45) * 0.2 * ran / 0.8
            celsius += (target - celsius) * (1 - math.exp(-1 / 60))
            hottest = max(hottest, celsius)
            shown = Readings(temperature_c=celsius + rng.normal(0, 1))
            governor.step()
            crossed = second if crossed is None and celsius >= 78 else crossed
            reduced = second if reduced is None and governor.stage else reduced
        log = list(governor.log)
        governor.close()
    assert len(log) <= most
    assert sum(event.at - log[0].at > 900 for event in log) <= 6, "it has become patient"
    assert hottest < 84
    if most:
        assert crossed is not None and reduced is not None and reduced - crossed < 60
        assert any(event.action.startswith("rate") for event in log)


@pytest.mark.parametrize(
    ("bad", "good", "reason"),
    [
        (Readings(throttle=Throttle(under_voltage=True)), Readings(throttle=Throttle()), "throttles"),
        (Readings(memory_available_mb=30), Readings(memory_available_mb=500), "memory_available_mb 30.0"),
        (Readings(pressure={"memory": Pressure(40)}), Readings(pressure={"memory": Pressure(0)}), "memory_pressure"),
        (Readings(pressure={"cpu": Pressure(90)}), Readings(pressure={"cpu": Pressure(1)}), "cpu_pressure"),
        (Readings(power_w=9), Readings(power_w=4), "power_w 9.0"),
        (
            Readings(frequency_mhz=600, frequency_max_mhz=1500),
            Readings(frequency_mhz=1500, frequency_max_mhz=1500),
            "frequency_share 0.4",
        ),
    ],
)
def test_each_reading_counts(bad: Readings, good: Readings, reason: str) -> None:
    settings = GovernorSettings(
        power_w=Band(8, 6),
        cpu_pressure=Band(80, 40),
        frequency_share=Band(0.5, 0.8),
        smooth=1,
        settle_s=5,
        recover_s=10,
    )
    controller = Controller(settings, 2)
    assert controller.decide(good, 0) == 0
    assert controller.decide(bad, 1) == 1 and reason in controller.reason
    assert controller.decide(bad, 3) == 1, "the first action has not shown its effect yet"
    assert controller.decide(bad, 6) == 2
    assert controller.decide(Readings(), 60) == 2, "what is not read does not count as fine"
    assert [controller.decide(good, second) for second in (100, 105, 111, 122)] == [2, 2, 1, 0]


def test_between_the_set_points_nothing_changes() -> None:
    controller = Controller(GovernorSettings(smooth=1), 3)
    assert run(controller, [79.0] + [75.0] * 600) == [1] * 601


def test_settings_of_a_file() -> None:
    found = GovernorSettings.from_dict(
        {"temperature_c": {"trouble": 85, "fine": 75}, "power_w": None, "actions": ["ladder", "pause"], "rate": 0.25}
    )
    assert found.temperature_c == Band(85, 75)
    assert found.actions == ("ladder", "pause") and found.rate == 0.25
    assert GovernorSettings.from_dict({}) == GovernorSettings()


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": {"trouble": 85, "fine": 75}},
        {"temperature_c": {"trouble": 85}},
        {"temperature_c": 85},
        {"temperature_c": {"trouble": 85, "fine": 85}},
        {"temperature_c": {"trouble": "85", "fine": 75}},
        {"temperature_c": {"trouble": float("nan"), "fine": 75}},
        {"actions": "pause"},
        {"actions": ["explode"]},
        {"actions": ["pause", "pause"]},
        {"period_s": 0},
        {"settle_s": "1"},
        {"rate": 0},
        {"rate": 2},
        {"smooth": 0},
        {"smooth": 2.5},
        {"throttle": 1},
        {"critical_c": True},
    ],
)
def test_settings_that_cannot_be_meant(given: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        GovernorSettings.from_dict(given)
