"""What comes out of a stream is what the model says; with times that add up; in every form of use."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.runtimes import ImageEmbedder, Stream, ZeroShotClassifier
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.model import Model
from edgekit.runtimes.realtime.records import Result
from tests import clip_bundles
from tests.runtimes.streams import Gated

TEXTS = ["a charming, funny film", "dull", "", "the plot is thin " * 40]
WAIT = 30.0
SLOW = pytest.mark.slow  # their bundles take seconds to make
TASKS = ["classify", pytest.param("embed", marks=SLOW), pytest.param("tag", marks=SLOW)]


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_the_models(model_of: Callable[[str], Model], task: str) -> None:
    model = model_of(task)
    with Stream(model, policy="all") as stream:
        for text in TEXTS:
            expected = model.run([text]) if task == "tag" else model.run(text)
            for result in (stream.run(text), stream.submit(text).result(WAIT)):
                same(result.get(), expected)
                assert result.item == text and result.engine == "onnxruntime"
                assert (result.rung, result.tried, result.batch) == ("model", ("model",), 1)


def same(answer: object, expected: object) -> None:
    if isinstance(expected, np.ndarray):
        assert np.array_equal(answer, expected)  # type: ignore[arg-type]
    else:
        assert answer == expected


def test_times_add_up_to_the_age(model: Model) -> None:
    with Stream(model, deadline_ms=10_000) as stream:
        before = stream._core.clock()
        for result in (stream.run("a film", captured=before - 0.5), stream.submit("a film", before).result(WAIT)):
            parts = result.capture_ms + result.queue_ms + result.preprocess_ms + result.model_ms + result.postprocess_ms
            assert parts == pytest.approx(result.age_ms, abs=1e-6)
            assert min(result.preprocess_ms, result.model_ms, result.postprocess_ms) > 0
            assert min(result.queue_ms, result.capture_ms) >= -1e-6
            assert result.deadline_ms == pytest.approx(10_000)
        assert result.captured == before


def test_an_idle_stream_runs_in_the_callers_thread(model: Model) -> None:
    class Here:
        def run(self, item: str) -> int:
            return threading.get_ident()

    with Stream(Here()) as stream:
        assert stream.run("a").get() == threading.get_ident()
        assert not stream._core._threads, "a stream that nobody submits to needs no thread"
        assert stream.submit("a").result(WAIT).get() != threading.get_ident()


def test_a_dual_encoder(dual: DualModel) -> None:
    pictures = clip_bundles.pictures()
    with Stream(dual) as stream:
        pair = stream.run((pictures[0], "stripes")).get()
    assert np.array_equal(pair[0], dual.run((pictures[0], "stripes"))[0])
    with Stream(ImageEmbedder(dual), policy="all") as stream:
        for picture in pictures:
            assert np.array_equal(stream.run(picture).get(), dual.embed_images(picture))
    with Stream(ImageEmbedder(dual, bgr=True)) as stream:
        assert np.array_equal(stream.run(pictures[0]).get(), dual.embed_images(pictures[0], bgr=True))


def test_zero_shot(dual: DualModel) -> None:
    pictures, labels = clip_bundles.pictures(), clip_bundles.LABELS
    with Stream(ZeroShotClassifier(dual, labels, top_k=2), policy="all", batch=4, batch_wait_ms=50) as stream:
        results = [future.result(WAIT) for future in [stream.submit(picture) for picture in pictures]]
    expected = dual.zero_shot(pictures, labels, top_k=2)
    assert [result.get().labels[0] for result in results] == expected.labels
    for result, row in zip(results, expected.scores, strict=True):
        assert np.allclose(result.get().scores[0], row, atol=1e-5)
        assert len(result.get()[0]) == 2
    with pytest.raises(InputError, match="labels"):
        ZeroShotClassifier(dual)
    with pytest.raises(InputError, match="top_k"):
        ZeroShotClassifier(dual, labels, top_k=0)


@pytest.mark.parametrize("task", TASKS)
def test_micro_batches(model_of: Callable[[str], Model], task: str) -> None:
    model = model_of(task)
    texts = [f"text number {number} of a film" for number in range(12)]
    gated = Gated(model)  # holds the first, so that the others gather
    with Stream(gated, policy="all"), Stream(model, policy="all", batch=4, batch_wait_ms=2000) as stream:
        results = [future.result(WAIT) for future in [stream.submit(text) for text in texts]]
    assert [result.batch for result in results] == [4] * 12
    for text, result in zip(texts, results, strict=True):
        answer, alone = result.get(), model.run([text])
        if task == "tag":
            assert [tag.label for tag in answer[0]] == [tag.label for tag in alone[0]]  # type: ignore[index, union-attr]
        else:
            found = answer.logits if task == "classify" else answer
            wanted = alone.logits if task == "classify" else alone  # type: ignore[union-attr]
            assert found.shape == wanted.shape and np.allclose(found, wanted, atol=1e-4)  # type: ignore[union-attr]


def test_nobody_waits_longer_for_company_than_allowed(model: Model) -> None:
    with Stream(model, policy="queue", batch=8, batch_wait_ms=30) as stream:
        alone = stream.submit("alone").result(WAIT)
        assert alone.batch == 1
        assert 20 < alone.queue_ms < 5000
        with_deadline = stream.submit("in a hurry", deadline_ms=2000).result(WAIT)
        assert with_deadline.ok
    with Stream(model, policy="queue", batch=8, batch_wait_ms=60_000, deadline_ms=500) as stream:
        result = stream.submit("its deadline comes before its company").result(WAIT)
        assert result.age_ms < 20_000


def test_one_bad_item_costs_its_neighbours_nothing(model: Model) -> None:
    with Stream(model, policy="all", batch=4, batch_wait_ms=2000) as stream:
        futures = [stream.submit(item) for item in ("a film", None, "dull", ["two", "texts"])]
        results = [future.result(WAIT) for future in futures]
    assert [result.ok for result in results] == [True, False, True, True]
    assert isinstance(results[1].error, InputError)
    assert len(results[3].get()) == 2
    assert [result.number for result in results] == [0, 1, 2, 3]


def test_engines_that_run_items_alone_refuse_batches(int8: Model) -> None:
    with pytest.raises(InputError, match=r"batch of model.*found 2"):
        Stream(int8, policy="queue", batch=2)
    with pytest.raises(InputError, match="batch of model"):
        Stream(Gated(int8), policy="queue", batch=2)


def test_over_a_source(model: Model) -> None:
    with Stream(model, policy="all", queue_size=3) as stream:
        results = list(stream.over(f"text {number}" for number in range(20)))
    assert [result.item for result in results] == [f"text {number}" for number in range(20)]


def test_over_a_source_that_breaks(model: Model) -> None:
    def source() -> Iterator[str]:
        yield "one"
        yield "two"
        raise OSError("the camera is gone")

    found: list[Result] = []
    with Stream(model, policy="all") as stream, pytest.raises(OSError, match="camera"):
        found.extend(stream.over(source()))
    assert [result.item for result in found] == ["one", "two"]


def test_a_reader_may_leave_early(model: Model) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "a film"

    with Stream(model, policy="all", queue_size=2) as stream:
        for result in stream.over(endless()):
            assert result.ok
            break
        feeders = [thread for thread in threading.enumerate() if thread.name == "edgekit-stream-feeder"]
        for thread in feeders:
            thread.join(WAIT)


def test_a_slow_reader_gets_the_newest(model: Model) -> None:
    read, go_on = threading.Event(), threading.Event()
    stream = Stream(model, policy="latest")

    def source() -> Iterator[str]:
        for number in range(10):
            before = stream.stats().answers
            yield str(number)
            while stream.stats().answers == before:
                time.sleep(0.001)
            assert read.wait(WAIT)  # the first is read before a second can take its place
        go_on.set()

    with stream:
        reader = stream.over(source())
        first = next(reader)
        read.set()
        assert go_on.wait(WAIT)
        rest = list(reader)
    assert first.item == "0"
    assert [result.item for result in rest] == ["9"]
    assert stream.stats().unread == 8


def test_over_ends_when_the_stream_does(model: Model) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "a film"

    stream = Stream(model, policy="all")
    count = 0
    for result in stream.over(endless()):
        count += result.ok
        if count == 3:
            stream.close()
    assert count >= 3


def test_asyncio(model: Model) -> None:
    async def source() -> AsyncIterator[str]:
        for number in range(15):
            yield f"text {number}"
            await asyncio.sleep(0)

    async def main() -> None:
        with Stream(model, policy="all", queue_size=2) as stream:
            assert (await stream.run_async("a film", deadline_ms=9000)).get() == model.run("a film")
            results = [result async for result in stream.over_async(source())]
            assert [result.item for result in results] == [f"text {number}" for number in range(15)]
            together = await asyncio.gather(*(stream.run_async(f"text {number}") for number in range(10)))
            assert all(result.ok for result in together)
            async for result in stream.over_async(source()):
                assert result.ok
                break

    asyncio.run(main())


def test_asyncio_cancels(model: Model) -> None:
    gated = Gated(model)

    async def main() -> None:
        with Stream(gated, policy="all", queue_size=1) as stream:
            running = asyncio.create_task(stream.run_async("in the model"))
            await asyncio.to_thread(gated.entered.acquire)
            await asyncio.to_thread(gated.prepared.acquire)
            prepared = asyncio.create_task(stream.run_async("prepared"))
            await asyncio.to_thread(gated.prepared.acquire)
            waiting = asyncio.create_task(stream.run_async("waiting"))
            no_place = asyncio.create_task(stream.run_async("no place"))
            await asyncio.sleep(0.01)
            for task in (waiting, no_place):
                task.cancel()
            await asyncio.gather(waiting, no_place, return_exceptions=True)
            gated.open()
            assert (await running).ok and (await prepared).ok
            assert (await stream.run_async("after")).ok

    asyncio.run(main())
    assert gated.order == ["in the model", "prepared", "after"]


def test_asyncio_source_that_breaks(model: Model) -> None:
    async def source() -> AsyncIterator[str]:
        yield "one"
        raise OSError("the camera is gone")

    async def main() -> None:
        with Stream(model) as stream:
            async for result in stream.over_async(source()):
                assert result.item == "one"

    with pytest.raises(OSError, match="camera"):
        asyncio.run(main())
