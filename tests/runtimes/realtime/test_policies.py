"""Who waits, who goes, and when: policies, deadlines, the end."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import pytest

from edgekit.errors import EngineError, InputError, StreamError
from edgekit.runtimes import Stream
from edgekit.runtimes.model import Model
from tests.runtimes.streams import Clock, Gated, Paced

WAIT = 30.0


def test_latest_keeps_only_the_newest(model: Model) -> None:
    gated = Gated(model)
    with Stream(gated) as stream:
        first = stream.submit("the first")
        assert gated.entered.acquire(timeout=WAIT)
        rest = [stream.submit(f"text {number}") for number in range(20)]
        gated.open()
        assert rest[-1].result(WAIT).ok
        assert first.result(WAIT).ok
    dropped = [one.result(WAIT).dropped for one in rest[:-1]]
    # One of them may have been prepared while the first one ran.
    assert dropped.count("superseded") >= 18
    assert stream.stats().dropped["superseded"] == dropped.count("superseded")
    assert gated.order[-1] == "text 19"


def test_a_prepared_frame_gives_way_when_the_model_was_late(model: Model) -> None:
    gated = Gated(model)
    with Stream(gated) as stream:
        first = stream.submit("the first")
        assert gated.entered.acquire(timeout=WAIT)
        old = stream.submit("prepared, then old", captured=time.monotonic() - 60)
        assert gated.prepared.acquire(timeout=WAIT) and gated.prepared.acquire(timeout=WAIT)
        new = stream.submit("new")
        gated.open()
        assert first.result(WAIT).ok and new.result(WAIT).ok
        assert old.result(WAIT).dropped == "superseded"
    assert gated.order == ["the first", "new"]


def test_the_next_item_is_prepared_while_the_model_runs(model: Model) -> None:
    gated = Gated(model)
    with Stream(gated, policy="queue") as stream:
        stream.submit("in the model")
        assert gated.entered.acquire(timeout=WAIT) and gated.prepared.acquire(timeout=WAIT)
        stream.submit("being prepared")
        assert gated.prepared.acquire(timeout=WAIT), "it should be prepared before the first has left the model"
        gated.open()


@pytest.mark.parametrize(("full", "gone", "reason"), [("refuse", 4, "refused"), ("oldest", 2, "overflow")])
def test_a_full_queue(model: Model, full: str, gone: int, reason: str) -> None:
    gated = Gated(model)
    with Stream(gated, policy="queue", queue_size=2, full=full) as stream:
        futures = [stream.submit("in the model")]
        assert gated.entered.acquire(timeout=WAIT) and gated.prepared.acquire(timeout=WAIT)
        futures.append(stream.submit("prepared"))
        assert gated.prepared.acquire(timeout=WAIT)
        futures += [stream.submit(f"waits {number}") for number in range(3)]
        assert stream.stats().waiting == 2
        assert stream.stats().queue_age_ms > 0
        gated.open()
    dropped = [future.result(WAIT).dropped for future in futures]
    assert dropped == [reason if number == gone else None for number in range(5)]
    assert stream.stats().dropped[reason] == 1


def test_all_answers_everything_in_order_and_lets_the_bringer_wait(model: Model) -> None:
    gated = Gated(model)
    brought, results = [], []
    with Stream(gated, policy="all", queue_size=2, deadline_ms=0.001) as stream:

        def bring() -> None:
            for number in range(12):
                stream.submit(str(number), callback=results.append)
                brought.append(number)

        feeder = threading.Thread(target=bring)
        feeder.start()
        assert gated.entered.acquire(timeout=WAIT) and gated.prepared.acquire(timeout=WAIT)
        assert gated.prepared.acquire(timeout=WAIT)  # one runs, one is prepared, two wait: the fifth has no place
        assert len(brought) <= 4
        gated.open()
        feeder.join(WAIT)
    assert [result.item for result in results] == [str(number) for number in range(12)]
    assert all(result.ok and result.late for result in results)  # late ones are marked, never dropped
    assert stream.stats().miss_rate == 1.0


def test_what_cannot_meet_its_deadline_is_dropped_before_it_runs() -> None:
    clock = Clock()
    paced = Paced(clock, model_s=0.02, prepare_s=0.005)
    with Stream(paced, deadline_ms=100, clock=clock) as stream:
        for number in range(20):
            assert stream.run(number).ok
        ran = len(paced.ran)
        result = stream.run("too old", captured=clock() - 0.09)
        assert result.dropped == "late" and not result.ok and not result.late
        assert len(paced.ran) == ran
        assert stream.run("just in time", captured=clock() - 0.07).ok
        with pytest.raises(StreamError, match="dropped: late"):
            result.get()
    stats = stream.stats()
    assert stats.dropped["late"] == 1
    assert stats.miss_rate == pytest.approx(1 / 22)


def test_what_has_begun_is_answered_and_marked_late() -> None:
    clock = Clock()
    paced = Paced(clock)
    with Stream(paced, deadline_ms=100, clock=clock) as stream:
        assert not stream.run("in time").late
        paced.model_s = 0.5
        result = stream.run("slow")
        assert result.ok and result.late
        assert result.age_ms == pytest.approx(500)


def test_an_item_is_checked_again_when_preparing_took_long() -> None:
    clock = Clock()
    paced = Paced(clock)
    with Stream(paced, deadline_ms=100, clock=clock) as stream:
        for number in range(20):
            assert stream.run(number).ok
        paced.prepare_s = 0.3
        result = stream.run("slow to prepare")
        assert result.dropped == "late"
        assert paced.ran[-1] == 19


def test_one_stall_does_not_shut_a_stream_for_ever() -> None:
    clock = Clock()
    paced = Paced(clock, model_s=10.0)
    with Stream(paced, deadline_ms=100, clock=clock) as stream:
        assert stream.run("a stall").late
        paced.model_s = 0.02
        results = [stream.run(number) for number in range(200)]
    assert results[0].dropped == "late"
    assert results[-1].ok
    assert all(result.ok for result in results[150:])


def test_a_deadline_of_its_own() -> None:
    clock = Clock()
    with Stream(Paced(clock), clock=clock) as stream:
        assert stream.run(0).deadline_ms is None
        result = stream.run(1, deadline_ms=1)
        assert result.dropped == "late"
        assert result.deadline_ms == pytest.approx(1)


class Failing:
    """Fails on some items, in the part that the item names."""

    engine = "failing"

    def prepare(self, item: str) -> str:
        return self._part("prepare", item)

    def forward(self, prepared: str) -> str:
        return self._part("forward", prepared)

    def finish(self, prepared: str, raw: str) -> str:
        del prepared
        return self._part("finish", raw)

    def _part(self, name: str, item: str) -> str:
        if item == name:
            raise ValueError(f"broken in {name}")
        if item == "exit":
            raise SystemExit(3)
        return item


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("item", ["prepare", "forward", "finish", "exit"])
def test_what_a_model_throws_is_the_items_result(item: str, inline: bool) -> None:
    with Stream(Failing(), policy="queue") as stream:
        bad = stream.run(item) if inline else stream.submit(item).result(WAIT)
        assert isinstance(bad.error, EngineError) and not bad.ok and bad.answer is None
        assert isinstance(bad.error.__cause__, ValueError | SystemExit)
        with pytest.raises(EngineError, match="model"):
            bad.get()
        good = stream.run("good") if inline else stream.submit("good").result(WAIT)
        assert good.get() == "good"
    assert stream.stats().errors == 1


class Session:
    """What a model holds in each inference, and can be large."""

    def __init__(self, item: str) -> None:
        self.item = item


class Losing:
    """Fails in the end, by an error of ours or another; ``sessions`` tells which of them are still in memory."""

    def __init__(self) -> None:
        self.sessions: list[weakref.ref[Session]] = []

    def prepare(self, item: str) -> Session:
        session = Session(item)
        self.sessions.append(weakref.ref(session))
        return session

    def forward(self, prepared: Session) -> Session:
        try:
            raise ValueError("broken")
        except ValueError as error:
            if prepared.item == "typed":
                raise EngineError("model", found="broken") from error
            raise

    def finish(self, prepared: Session, raw: Session) -> Session:
        del prepared
        return raw


@pytest.mark.parametrize("inline", [True, False])
def test_an_error_keeps_nothing_of_what_failed(inline: bool) -> None:
    model = Losing()
    gc.collect()
    gc.disable()
    try:
        with Stream(model, policy="queue") as stream:
            for item in ("typed", "other"):
                result = stream.run(item) if inline else stream.submit(item).result(WAIT)
                assert result.error is not None and result.error.__cause__ is not None
        assert [session() for session in model.sessions] == [None, None]
        assert "in forward" in result.error.__cause__.__notes__[0], "where it was raised can still be read"
    finally:
        gc.enable()


def test_typed_errors_stay_what_they_are(model: Model) -> None:
    with Stream(model) as stream:
        result = stream.run(None)
        assert isinstance(result.error, InputError)
        assert stream.run("a film").ok


def test_closing_drops_what_waits_and_ends_the_threads(model: Model) -> None:
    gated = Gated(model)
    stream = Stream(gated, policy="queue")
    futures = [stream.submit(str(number)) for number in range(6)]
    assert gated.entered.acquire(timeout=WAIT)
    closer = threading.Thread(target=stream.close)
    closer.start()
    while not all(future.done() for future in futures[2:]):
        time.sleep(0.001)
    gated.open()
    closer.join(WAIT)
    stream.close()  # twice is once
    results = [future.result(WAIT) for future in futures]
    assert results[0].ok
    assert all(result.dropped == "closed" for result in results[2:])
    with pytest.raises(StreamError, match="closed"):
        stream.submit("more")
    with pytest.raises(StreamError, match="closed"):
        stream.run("more")


def test_closing_frees_who_waits_for_a_place(model: Model) -> None:
    gated, raised = Gated(model), threading.Event()
    stream = Stream(gated, policy="all", queue_size=1)

    def bring() -> None:
        try:
            for number in range(10):
                stream.submit(str(number))
        except StreamError:
            raised.set()

    feeder = threading.Thread(target=bring)
    feeder.start()
    assert gated.entered.acquire(timeout=WAIT)
    gated.open()
    while stream.stats().answers < 1:
        time.sleep(0.001)
    stream.close()
    feeder.join(WAIT)
    assert raised.is_set() or stream.stats().requests == 10


def test_leaving_the_block_answers_what_waits(model: Model) -> None:
    with Stream(model, policy="queue", queue_size=30) as stream:
        futures = [stream.submit(f"text {number}") for number in range(30)]
    assert all(future.result(0).ok for future in futures)


def test_a_callback_may_close_the_stream(model: Model) -> None:
    closed = threading.Event()
    stream = Stream(model, policy="queue")

    def close(_: Any) -> None:
        stream.close()
        closed.set()

    stream.submit("one", callback=close)
    assert closed.wait(WAIT)
    stream.close()  # now from outside: the threads end


def test_a_cancelled_request_never_runs(model: Model) -> None:
    gated = Gated(model)
    with Stream(gated, policy="queue") as stream:
        stream.submit("in the model")
        assert gated.entered.acquire(timeout=WAIT) and gated.prepared.acquire(timeout=WAIT)
        stream.submit("prepared")
        assert gated.prepared.acquire(timeout=WAIT)
        waiting = stream.submit("waiting")
        last = stream.submit("the last")
        assert waiting.cancel()
        gated.open()
        assert last.result(WAIT).ok
    assert waiting.cancelled()
    assert gated.order == ["in the model", "prepared", "the last"]
    assert stream.stats().dropped["cancelled"] == 1


def test_wall_time_is_never_asked(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> float:
        raise AssertionError("a clock that can jump was read")

    monkeypatch.setattr(time, "time", refuse)
    monkeypatch.setattr(time, "time_ns", refuse)
    with Stream(model, deadline_ms=30_000) as stream:
        assert stream.run("a film").ok
        assert stream.submit("a film").result(WAIT).ok
        assert stream.stats().answers == 2


def test_a_capture_time_of_another_clock_is_refused(model: Model) -> None:
    with Stream(model) as stream, pytest.raises(InputError, match=r"time\.monotonic"):
        stream.submit("a film", captured=time.time() + 1e9)


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "newest"},
        {"queue_size": 0},
        {"queue_size": True},
        {"full": "grow"},
        {"deadline_ms": 0},
        {"deadline_ms": float("nan")},
        {"batch": 0},
        {"window": 0},
        {"batch": 4},  # policy latest
        {"batch": 4, "policy": "queue", "queue_size": 3},
    ],
)
def test_settings_that_do_not_fit(model: Model, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Stream(model, **settings)


def test_something_that_is_no_model() -> None:
    with pytest.raises(InputError, match="model"):
        Stream(object())


@pytest.mark.parametrize("policy", ["latest", "queue", "all"])
def test_many_threads_at_once(model: Model, policy: str) -> None:
    """Every request ends once, whoever brings it and however."""
    with Stream(model, deadline_ms=5000, policy=policy, queue_size=4) as stream:
        results: list[Any] = []

        def bring(name: int) -> None:
            for number in range(25):
                if number % 3 == name % 3:
                    results.append(stream.run(f"text {number}"))
                else:
                    stream.submit(f"text {number}", callback=results.append)

        threads = [threading.Thread(target=bring, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    assert len(results) == 100
    assert sorted(result.number for result in results) == list(range(100))
    stats = stream.stats()
    assert stats.requests == 100 == stats.answers + sum(stats.dropped.values())
    assert stats.waiting == 0
    if policy == "all":
        assert stats.answers == 100
