"""A camera or a queue on one side, answers with their ages on the other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from edgekit.errors import InputError
from edgekit.runtimes.realtime import asynchronous, iterate
from edgekit.runtimes.realtime.core import Core
from edgekit.runtimes.realtime.intake import Intake
from edgekit.runtimes.realtime.ladder import Ladder, Rung
from edgekit.runtimes.realtime.records import Result
from edgekit.runtimes.realtime.stats import Recorder, Stats


class Stream:
    """Answers from ``model`` under deadlines. Use it as a context manager, or close it.

    ``model``: a ``Model``, a ``DualModel``, an adapter such as ``ImageEmbedder``, whatever has ``prepare``, ``forward``
    and ``finish`` or ``run``, or a :class:`Ladder` of them. ``deadline_ms``: from an item's capture to its answer, None
    for no deadline.

    ``policy``: "latest" keeps only the newest item waiting; "queue" keeps ``queue_size``, and when they are full
    refuses the new one (``full="refuse"``) or drops the oldest ("oldest"). An item that cannot meet its deadline, by
    the running estimate of what an inference takes here, is dropped before it runs, never after. "all" answers every
    item, lets who brings them wait while ``queue_size`` are waiting, and only marks what is late.

    ``batch``: up to so many items in one call; while the model is free none waits longer than ``batch_wait_ms`` for
    others. ``window``: how many results :meth:`stats` looks back; ``clock``: seconds that never go back.

    Every request ends in one :class:`Result`; what the model raises is its ``error``, and the stream goes on. The next
    item is prepared while the model runs. Raises ``InputError`` for settings that do not fit together.
    """

    def __init__(
        self,
        model: Any,
        deadline_ms: float | None = None,
        policy: str = "latest",
        queue_size: int = 16,
        full: str = "refuse",
        batch: int = 1,
        batch_wait_ms: float = 0.0,
        window: int = 512,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ladder = model if isinstance(model, Ladder) else Ladder([Rung("model", model)])
        self.deadline_s = _seconds("deadline_ms", deadline_ms)
        intake = Intake(policy, queue_size, full)
        self.policy, self.queue_size = policy, intake.size
        _check_batch(batch, intake, self.ladder)
        wait = _seconds("batch_wait_ms", batch_wait_ms or None) or 0.0
        self._recorder = Recorder(window, clock)
        self._core = Core(self.ladder, intake, self._recorder, batch, wait, clock)

    def run(self, item: Any, captured: float | None = None, deadline_ms: float | None = None) -> Result:
        """One item, waited for. When the stream is idle it runs in the calling thread, without a hand-over.

        Arguments and errors as in :meth:`submit`.
        """
        here = self._core.serve_here(item, captured, self._within(deadline_ms))
        return self.submit(item, captured, deadline_ms).result() if here is None else here

    def submit(
        self,
        item: Any,
        captured: float | None = None,
        deadline_ms: float | None = None,
        callback: Callable[[Result], object] | None = None,
    ) -> Future[Result]:
        """Bring one item; its future gives the result and raises nothing. Waits only with policy "all", for a place.

        ``captured``: when that was, seconds of ``time.monotonic``, default now; ``deadline_ms``: a deadline of its own.
        ``callback`` gets the result in a thread of the stream or, where a newer item pushed it out, of whoever brought
        that: keep it short, and let it wait for nothing of this stream. Raises ``StreamError`` when the stream is
        closed, ``InputError``.
        """
        future: Future[Result] = Future()
        if callback is not None:
            wanted = callback
            future.add_done_callback(lambda done: done.cancelled() or wanted(done.result()))
        while (space := self.offer(future, item, captured, deadline_ms)) is not None:
            space.result()
        return future

    def offer(
        self, future: Future[Result], item: Any, captured: float | None = None, deadline_ms: float | None = None
    ) -> Future[None] | None:
        """:meth:`submit` for event loops: never waits. With policy "all" and no place, a future of there being one."""
        return self._core.offer(item, captured, self._within(deadline_ms), future)

    def over(self, source: Iterable[Any]) -> Iterator[Result]:
        """Answers and errors for the items of ``source``, which a thread reads at its own pace; drops are in the stats.

        With policy "all" every item has its result, in order. Else a slow reader gets the newest answers
        (``stats().unread`` counts the others), and a list is no camera: its items supersede each other at once. What
        ``source`` raises is raised after its last answer. A source that blocks keeps its thread until it gives an item.
        """
        return iterate.over(self, source)

    async def run_async(self, item: Any, captured: float | None = None, deadline_ms: float | None = None) -> Result:
        """:meth:`submit` for asyncio; cancelling it cancels the request while that waits."""
        return await asynchronous.run(self, item, captured, deadline_ms)

    def over_async(self, source: AsyncIterable[Any]) -> AsyncIterator[Result]:
        """:meth:`over` for asyncio."""
        return asynchronous.over(self, source)

    def stats(self) -> Stats:
        """What it did, and how it is now."""
        core, ladder = self._core, self.ladder
        with core.lock:
            waiting = core.intake.waiting
            age = 1e3 * (core.clock() - waiting[0].captured) if waiting else 0.0
            limit = 1 / core.interval if core.interval else None
            count, paused, level = len(waiting), core.paused, ladder.level
        return self._recorder.stats(count, age, level, ladder.rungs[level].name, paused, limit)

    def answer_hz(self, seconds: float) -> float:
        """Answers a second over the last ``seconds``, as far as the window reaches."""
        return self._recorder.answer_hz(seconds)

    def limit_rate(self, hz: float | None) -> None:
        """Begin at most ``hz`` calls of the model a second; None: as many as come."""
        _seconds("hz", hz)
        self._core.limit_rate(hz)

    def pause(self, paused: bool = True) -> None:
        """Run nothing until resumed. Meanwhile items are dropped; with policy "all" they wait."""
        self._core.pause(paused)

    def unread(self) -> None:
        """Count an answer that an iterator's reader was too slow for."""
        self._recorder.missed_by_reader()

    def close(self, drain: bool = False) -> None:
        """Take nothing more. What waits is dropped or, with ``drain``, answered first. Its threads have ended then."""
        self._core.close(drain)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close(drain=kind is None)

    def _within(self, deadline_ms: float | None) -> float | None:
        return self.deadline_s if deadline_ms is None else _seconds("deadline_ms", deadline_ms)


def _seconds(name: str, milliseconds: float | None) -> float | None:
    if milliseconds is None:
        return None
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float) or not 0 < milliseconds < 1e12:
        raise InputError(name, found=repr(milliseconds), expected="a number above 0, or None")
    return milliseconds / 1e3


def _check_batch(batch: int, intake: Intake, ladder: Ladder) -> None:
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise InputError("batch", found=repr(batch), expected="1 or more")
    if batch == 1:
        return
    if ladder.cascade is not None:
        raise InputError("batch", found=batch, expected="1, as a cascade asks item by item")
    if intake.size < batch:
        raise InputError(
            "batch",
            found=f'{batch}, with policy "{intake.policy}" and {intake.size} waiting',
            expected=f'policy "queue" or "all", and queue_size of {batch} or more',
        )
    for step in ladder.steps:
        if step.face.max_batch < batch:
            raise InputError(
                f"batch of {step.rung.name}",
                found=batch,
                expected=f"{step.face.max_batch} at most",
                fix="Its engine runs items alone, or its answers would depend on the items beside them.",
            )
