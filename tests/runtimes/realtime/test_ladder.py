"""Down when deadlines are missed, up again with hysteresis, larger rungs for what is not sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.errors import EngineError, InputError
from edgekit.runtimes import Ladder, Rung, Stream
from edgekit.runtimes.answers import Classification
from edgekit.runtimes.model import Model
from tests.runtimes.streams import Clock, Paced


def two(clock: Clock, **settings: Any) -> tuple[Ladder, Paced, Paced]:
    large, small = Paced(clock, model_s=0.03), Paced(clock, model_s=0.005)
    return Ladder([Rung("large", large, 0.93, 30.0), Rung("small", small, 0.90, 5.0)], **settings), large, small


def play(stream: Stream, clock: Clock, count: int, every_s: float = 0.1) -> list[str]:
    """The rung, or the reason of the drop, of ``count`` requests, one every ``every_s``."""
    found = []
    for number in range(count):
        result = stream.run(number)
        found.append(result.dropped or result.rung)
        clock.now += every_s
    return found


def test_real_models_and_who_answered(model: Model, int8: Model) -> None:
    ladder = Ladder([Rung("fp32", model, 0.5), Rung("int8", int8, 0.5)])
    with Stream(ladder) as stream:
        assert stream.run("a film").rung == "fp32"
        ladder.govern(1)
        result = stream.run("a film")
        assert result.rung == "int8" and result.get() == int8.run("a film")
        ladder.govern(0)
        assert stream.run("a film").get() == model.run("a film")
    assert stream.stats().answers_by_rung == {"fp32": 2, "int8": 1}


def test_down_when_deadlines_are_missed_and_up_again() -> None:
    clock = Clock()
    ladder, large, _ = two(clock, up_after_s=5.0)
    with Stream(ladder, deadline_ms=50, clock=clock) as stream:
        assert play(stream, clock, 30) == ["large"] * 30
        large.model_s = 0.08  # the board slows down
        seen = play(stream, clock, 30)
        assert seen[-1] == "small"
        assert seen.index("small") <= 6, "a few misses are enough"
        assert stream.stats().rung == "small" and stream.stats().level == 1
        large.model_s = 0.03
        seen = play(stream, clock, 100)
        assert seen[-1] == "large"
        assert seen.count("large") >= 40
    assert [event.action for event in ladder.log] == ["down to small", "up to large"]
    assert "missed" in ladder.log[0].reason and "5 s" in ladder.log[1].reason


def test_a_rung_that_stays_too_slow_is_tried_ever_more_rarely() -> None:
    clock = Clock()
    ladder, large, small = two(clock, up_after_s=2.0)
    large.model_s = 0.08
    small.model_s = 0.006
    with Stream(ladder, deadline_ms=50, clock=clock) as stream:
        play(stream, clock, 3000)  # five minutes
    ups = [event.at for event in ladder.log if event.action.startswith("up")]
    gaps = np.diff(ups)
    assert len(ups) <= 13, "without the doubling it would be some 130"
    assert np.all(np.diff(gaps) > -1) and gaps[-1] > 6 * gaps[0]


def test_stated_latencies_save_a_vain_attempt() -> None:
    clock = Clock()
    ladder, large, small = two(clock, up_after_s=2.0)
    large.model_s, small.model_s = 0.18, 0.03  # all is six times slower than stated
    with Stream(ladder, deadline_ms=100, clock=clock) as stream:
        seen = play(stream, clock, 500)
    assert seen[20:] == ["small"] * 480
    assert [event.action for event in ladder.log] == ["down to small"]


class Sure:
    """Two classes; as sure as its name says, of an item that is not easy."""

    engine = "sure"

    def __init__(self, confidence: float, fails: bool = False) -> None:
        self.confidence, self.fails, self.asked = confidence, fails, 0

    def run(self, item: str) -> Classification:
        self.asked += 1
        if self.fails:
            raise RuntimeError("out of memory")
        share = 0.99 if item == "easy" else self.confidence
        return Classification(np.log(np.array([[share, 1 - share]], np.float32)), ["yes", "no"])


def cascade(*confidences: float, **settings: Any) -> tuple[Ladder, list[Sure]]:
    models = [Sure(one) for one in confidences]
    return Ladder([Rung(f"rung{n}", one) for n, one in enumerate(models)], **settings), models


def test_a_cascade_asks_larger_models_when_it_is_not_sure() -> None:
    ladder, models = cascade(0.97, 0.8, 0.6, cascade=0.9)
    with Stream(ladder) as stream:
        easy, hard = stream.run("easy"), stream.run("hard")
        assert (easy.rung, easy.tried) == ("rung2", ("rung2",))
        assert (hard.rung, hard.tried) == ("rung0", ("rung2", "rung1", "rung0"))
        assert hard.get().scores[0] == pytest.approx(0.97)
        assert [model.asked for model in models] == [1, 1, 2]
        ladder.govern(1)  # the governor forbids the largest
        assert stream.run("hard").rung == "rung1"
        ladder.govern(2)
        assert stream.run("hard").tried == ("rung2",)


def test_a_cascade_climbs_only_within_the_deadline() -> None:
    clock = Clock()

    class Slow(Sure):
        def __init__(self, confidence: float, seconds: float) -> None:
            super().__init__(confidence)
            self.seconds = seconds

        def run(self, item: str) -> Classification:
            clock.now += self.seconds
            return super().run(item)

    ladder = Ladder([Rung("large", Slow(0.97, 0.06)), Rung("small", Slow(0.6, 0.01))], cascade=0.9)
    with Stream(ladder, clock=clock) as stream:
        assert stream.run("hard", deadline_ms=1000).rung == "large"
        result = stream.run("hard", deadline_ms=50)
        assert result.rung == "small" and result.ok and not result.late


def test_a_cascade_keeps_the_answer_that_it_has() -> None:
    ladder = Ladder([Rung("large", Sure(0.97, fails=True)), Rung("small", Sure(0.6))], cascade=0.9)
    with Stream(ladder) as stream:
        result = stream.run("hard")
    assert result.ok and result.rung == "small"
    assert result.tried == ("small", "large")
    assert result.postprocess_ms >= 0


def test_a_cascade_of_real_models(model: Model, int8: Model) -> None:
    with Stream(Ladder([Rung("fp32", model), Rung("int8", int8)], cascade=1.0)) as stream:
        result = stream.run("a film")
        assert result.rung == "fp32" and result.get() == model.run("a film")
        parts = result.queue_ms + result.preprocess_ms + result.model_ms + result.postprocess_ms + result.capture_ms
        assert parts == pytest.approx(result.age_ms)


def test_a_cascade_needs_scores() -> None:
    clock = Clock()
    with Stream(Ladder([Rung("a", Paced(clock)), Rung("b", Paced(clock))], cascade=0.5)) as stream:
        assert isinstance(stream.run(1).error, InputError)


def test_fewer_threads() -> None:
    loaded = []

    def lean() -> Sure:
        loaded.append(Sure(0.7))
        return loaded[-1]

    ladder = Ladder([Rung("large", Sure(0.97), lean=lean), Rung("small", Sure(0.6))])
    with Stream(ladder) as stream:
        for _ in range(2):
            ladder.drop_threads(True)
            assert stream.run("hard").get().scores[0] == pytest.approx(0.7)
            ladder.drop_threads(False)
            assert stream.run("hard").get().scores[0] == pytest.approx(0.97)
    assert len(loaded) == 1, "it is loaded once and kept"


def test_fewer_threads_that_cannot_be_loaded() -> None:
    def lean() -> Sure:
        raise EngineError("model", found="no memory")

    ladder = Ladder([Rung("large", Sure(0.97), lean=lean)])
    with Stream(ladder) as stream:
        with pytest.raises(EngineError):
            ladder.drop_threads(True)
        assert stream.run("hard").get().scores[0] == pytest.approx(0.97)


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        ([], {}),
        (["a", "a"], {}),
        (["a"], {"cascade": 0}),
        (["a"], {"cascade": 1.5}),
        (["a"], {"down_after": 0}),
        (["a"], {"down_after": 21}),
        (["a"], {"up_after_s": 0}),
        (["a"], {"headroom": -1}),
    ],
)
def test_ladders_that_cannot_be(names: list[str], settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Ladder([Rung(name, Sure(0.5)) for name in names], **settings)


def test_a_cascade_takes_no_batches(model: Model) -> None:
    with pytest.raises(InputError, match="item by item"):
        Stream(Ladder([Rung("a", model), Rung("b", model)], cascade=0.9), policy="all", batch=2)
