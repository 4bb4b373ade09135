"""What a stream says of itself, and in which words to Prometheus."""

from __future__ import annotations

import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import InputError
from edgekit.runtimes import Ladder, Rung, Stream
from edgekit.runtimes.model import Model
from edgekit.runtimes.realtime.stats import TIMES, Stats
from tests.runtimes.streams import Clock, Paced

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")
_SUFFIXES = {"summary": ("", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> Samples:
    """Prometheus's text format as its documentation states it; asserts all that it demands."""
    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    helped: set[str] = set()
    samples: Samples = {}
    family = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in helped
            helped.add(family)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name == family and name not in kinds, "one TYPE a family, after its HELP, before its samples"
            kinds[name] = kind
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match[1], match[2] or "", float(match[3])
            assert name in {family + suffix for suffix in _SUFFIXES[kinds[family]]}, "families are not mixed"
            assert kinds[family] != "counter" or name.endswith("_total")
            found = tuple((one[1], unescape(one[2])) for one in _LABEL.finditer(labels))
            assert "".join(one[0] for one in _LABEL.finditer(labels)) == labels
            assert (name, found) not in samples
            samples[name, found] = value
    return samples


def unescape(value: str) -> str:
    return re.sub(r'\\(["\\n])', lambda match: "\n" if match[1] == "n" else match[1], value)


def test_numbers() -> None:
    clock = Clock()
    with Stream(Paced(clock, model_s=0.02, prepare_s=0.01), deadline_ms=50, clock=clock, window=100) as stream:
        for number in range(100):
            assert stream.run(number).ok
            clock.now += 0.07
        for number in range(10):
            assert stream.run(number, captured=clock() - 0.05).dropped == "late"
        stats = stream.stats()
    assert (stats.requests, stats.answers, stats.late, stats.errors) == (110, 100, 0, 0)
    assert stats.dropped["late"] == 10
    assert stats.miss_rate == pytest.approx(0.1)
    assert stats.answer_hz == pytest.approx(10, rel=0.02)
    assert stats.times["model"].p50 == pytest.approx(20)
    assert stats.times["preprocess"].p99 == pytest.approx(10)
    assert stats.times["age"].max == pytest.approx(30)
    assert stats.total_s["model"] == pytest.approx(2.0)
    assert stats.seconds == pytest.approx(10.0)
    assert stream.answer_hz(1.0) == pytest.approx(10, abs=1)


def test_rates_fall_when_nothing_comes() -> None:
    clock = Clock()
    with Stream(Paced(clock), clock=clock) as stream:
        for number in range(50):
            stream.run(number)
        assert stream.stats().answer_hz == pytest.approx(50, rel=0.05)
        clock.now += 99
        assert stream.stats().answer_hz == pytest.approx(0.5, rel=0.05)
        assert stream.answer_hz(5.0) == 0.0


def test_memory_stays_what_it_was() -> None:
    clock = Clock()
    with Stream(Paced(clock), deadline_ms=100, clock=clock, window=64) as stream:
        paced = stream.ladder.rungs[0].model

        def play(count: int) -> None:
            for number in range(count):
                stream.run(number)
            paced.ran.clear()

        play(500)
        tracemalloc.start()
        play(100)
        before = tracemalloc.get_traced_memory()[0]
        play(5000)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert grown < 20_000, "5,000 results of 100 bytes each would be half a megabyte"


def test_prometheus(model: Model) -> None:
    ladder = Ladder([Rung('the "large" \\ one\n', model)])
    with Stream(ladder, deadline_ms=60_000) as stream:
        empty = parse(stream.stats().prometheus())
        assert empty["edgekit_stream_age_seconds_count", ()] == 0
        for _ in range(5):
            assert stream.run("a film").ok
        stream.run(None)
        stats = stream.stats()
    samples = parse(stats.prometheus())
    assert samples["edgekit_stream_requests_total", ()] == 6
    assert samples["edgekit_stream_errors_total", ()] == 1
    assert samples["edgekit_stream_answers_total", (("rung", 'the "large" \\ one\n'),)] == 5
    assert samples["edgekit_stream_dropped_total", (("reason", "superseded"),)] == 0
    for name in TIMES:
        assert samples[f"edgekit_stream_{name}_seconds", (("quantile", "0.5"),)] == stats.times[name].p50 / 1e3
        assert samples[f"edgekit_stream_{name}_seconds_count", ()] == 5
        assert samples[f"edgekit_stream_{name}_seconds_sum", ()] == stats.total_s[name]
    assert ("edgekit_stream_rate_limit_per_second", ()) not in samples
    assert parse(stats.prometheus("camera"))["camera_requests_total", ()] == 6
    with pytest.raises(InputError, match="prefix"):
        stats.prometheus("1 stream")


@settings(max_examples=50, deadline=None)
@given(
    rung=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")),
    value=st.floats(0, 1e300),
    limit=st.none() | st.floats(1e-9, 1e9),
)
def test_prometheus_for_any_name_and_number(rung: str, value: float, limit: float | None) -> None:
    stats = Stats(
        seconds=value, requests=1, answers=1, late=0, errors=0, unread=0, dropped={"late": 3}, waiting=0,
        answers_by_rung={rung: 1}, total_s=dict.fromkeys(TIMES, value), queue_age_ms=value, level=0, rung=rung,
        paused=False, rate_limit_hz=limit, miss_rate=0.0, arrival_hz=value, answer_hz=value, times={},
    )  # fmt: skip
    samples = parse(stats.prometheus("a_b"))
    assert samples["a_b_answers_total", (("rung", rung),)] == 1
    assert samples["a_b_answers_per_second", ()] == value
    assert samples.get(("a_b_rate_limit_per_second", ())) == limit
