"""The threads of a stream: who takes what, when, and what is dropped. Times in seconds of one monotonic clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from edgekit.errors import InputError, StreamError
from edgekit.runtimes.realtime.intake import Intake
from edgekit.runtimes.realtime.ladder import Ladder, Step
from edgekit.runtimes.realtime.records import CANCELLED, CLOSED, LATE, PAUSED, RATE, SUPERSEDED, Request, Result
from edgekit.runtimes.realtime.stats import Recorder
from edgekit.runtimes.realtime.work import Work

_WORKERS = 2  # one prepares while the other's model runs
_LEAD_S = 0.0003  # a thread wakes up so much later than it asked for
Dropped = tuple[Request, str]
Ended = list[tuple[Request, Result]]


class Core:
    """Two workers in three stages: the front (take and prepare), the model, the way out. One thread is in each at a
    time, and leaves it only when it has the next, so that results keep the requests' order."""

    def __init__(
        self,
        ladder: Ladder,
        intake: Intake,
        recorder: Recorder,
        batch: int,
        batch_wait_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.ladder, self.intake, self.recorder = ladder, intake, recorder
        self.batch, self.batch_wait_s, self.clock = batch, batch_wait_s, clock
        self.lock = threading.Lock()  # guards all but the two locks below
        self.changed = threading.Condition(self.lock)
        self.paused = self._closed = self._draining = False
        self.interval = self._next_start = 0.0  # between two calls of the model, where the rate is limited
        self._front = False  # whether a thread is there
        self._model, self._out = threading.Lock(), threading.Lock()
        self._busy_until: float | None = None
        self._free_at = 0.0
        self._threads: list[threading.Thread] = []
        self._space: list[Future[None]] = []

    # Those who bring

    def offer(
        self, item: Any, captured: float | None, within_s: float | None, future: Future[Result]
    ) -> Future[None] | None:
        """Take one more; with policy all and no place, a future of there being one. Raises ``StreamError``."""
        with self.lock:
            self._check_open()
            if not self.intake.has_space:
                space: Future[None] = Future()
                self._space.append(space)
                return space
            request = self._request(item, captured, within_s, future)
            gone: Dropped | None
            if self.paused and self.intake.policy != "all":
                gone = request, PAUSED
            else:
                gone = self.intake.offer(request)
                self._start()
                # Where something waited already, a worker knows, or will look by itself.
                if self.batch > 1 or (gone is None and len(self.intake.waiting) == 1):
                    self.changed.notify()
        if gone is not None:
            self._drop(*gone)
        return None

    def serve_here(self, item: Any, captured: float | None, within_s: float | None) -> Result | None:
        """Serve one item in this thread, if nothing else is under way; else None."""
        with self.lock:
            self._check_open()
            busy = self._front or self.intake.waiting or self.paused or self._model.locked()
            if busy or self.batch > 1 or self._next_start > self.clock():
                return None
            request, dropped = self._admit(self._request(item, captured, within_s, None), self.clock())
            self._front = request is not None
        if dropped is not None:
            return self._drop(*dropped)
        return None if request is None else self._serve([request])[0]

    def _request(
        self, item: Any, captured: float | None, within_s: float | None, future: Future[Result] | None
    ) -> Request:
        now = self.clock()
        if captured is not None and captured > now + 1.0:
            raise InputError("captured", found=captured, expected=f"seconds of time.monotonic(), {now:.3f} now")
        taken = now if captured is None else min(captured, now)
        deadline = None if within_s is None else taken + within_s
        return Request(self.recorder.arrived(now), item, taken, now, deadline, future)

    def _check_open(self) -> None:
        if self._closed:
            raise StreamError("stream", found="it is closed", expected="an open one")

    # The governor and the end

    def limit_rate(self, hz: float | None) -> None:
        """At most so many calls of the model a second."""
        with self.lock:
            self.interval = 1 / hz if hz else 0.0
            self._next_start = min(self._next_start, self.clock() + self.interval) if hz else 0.0
            self.changed.notify_all()

    def pause(self, paused: bool) -> None:
        """Run nothing, and drop what waits and what comes unless the policy is all; or go on."""
        with self.lock:
            self.paused = paused
            gone = self._empty() if paused and self.intake.policy != "all" else []
            self.changed.notify_all()
        for request in gone:
            self._drop(request, PAUSED)

    def close(self, drain: bool) -> None:
        """Answer what waits, or drop it; end the threads."""
        with self.lock:
            self._closed = True
            self._draining = drain and not self.paused
            gone = [] if self._draining else self._empty()
            space, self._space = self._space, []
            self.changed.notify_all()
        for request in gone:
            self._drop(request, CLOSED)
        _open_up(space)
        if threading.current_thread() not in self._threads:  # a callback may close the stream
            for thread in self._threads:
                thread.join()

    def _empty(self) -> list[Request]:
        gone = list(self.intake.waiting)
        self.intake.waiting.clear()
        return gone

    # The workers

    def _start(self) -> None:
        """Threads, at the first item that needs them."""
        while len(self._threads) < _WORKERS:
            name = f"edgekit-stream-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._loop, name=name, daemon=True))
            self._threads[-1].start()

    def _loop(self) -> None:
        while True:
            with self.lock:
                taken, gone, space = self._take()
            _open_up(space)
            for request, reason in gone:
                self._drop(request, reason)
            if taken:
                self._serve(taken)
            elif not gone:
                return

    def _take(self) -> tuple[list[Request], list[Dropped], list[Future[None]]]:
        """Wait for work; what will run now, what has to go, and who waits for the places. Nothing: the end."""
        waiting = self.intake.waiting
        while waiting or not self._closed:
            wait = self._wait(self.clock())
            if wait is None or wait > 0:
                self.changed.wait(wait)
                continue
            taken: list[Request] = []
            gone: list[Dropped] = []
            now = self.clock()
            while waiting and len(taken) < self.batch:
                request, dropped = self._admit(waiting.popleft(), now)
                if request is not None:
                    taken.append(request)
                if dropped is not None:
                    gone.append(dropped)
            self._front = bool(taken)
            space, self._space = self._space, []
            return taken, gone, space
        return [], [], []

    def _wait(self, now: float) -> float | None:
        """Seconds until the next take, 0 or less for now, None for not before something changes."""
        waiting = self.intake.waiting
        if not waiting or self._front or (self.paused and not self._closed):
            return None
        if self._draining:
            return 0.0
        step = self._step()
        lead = step.preparing.cautious + _LEAD_S
        free = now if self._busy_until is None else self._busy_until - lead
        at = self._next_start - lead if self.interval else now
        if self.intake.policy == "latest":
            at = max(at, free)  # as late as the model does not have to wait for it: a newer one may come
        if len(waiting) < self.batch:
            first = waiting[0]
            until = max(first.arrived + self.batch_wait_s, free)
            if first.deadline is not None and self._may_drop:
                until = min(until, first.deadline - lead - step.run_time(len(waiting)).cautious)
            at = max(at, until)
        return at - now

    def _admit(self, request: Request, now: float) -> tuple[Request | None, Dropped | None]:
        """The request; or it and the reason why it will not run."""
        if request.future is not None and not request.future.set_running_or_notify_cancel():
            return None, (request, CANCELLED)
        step = self._step()
        start = max(now + step.preparing.cautious, self._busy_until or 0.0)
        if self._in_time(request, start, step, 1):
            return request, None
        held = max(0.0, now - max(request.arrived, self._free_at)) if self.interval else 0.0
        reason = RATE if held and self._in_time(request, start - held, step, 1) else LATE
        step.fade()  # after the reason is known: what fades makes the next estimate, not this one
        return None, (request, reason)

    def _in_time(self, request: Request, start: float, step: Step, items: int) -> bool:
        """Whether ``request`` may still run, its model beginning at ``start``."""
        if request.deadline is None or not self._may_drop:
            return True
        return start + step.run_time(items).cautious <= request.deadline

    @property
    def _may_drop(self) -> bool:
        return self.intake.policy != "all"

    def _step(self) -> Step:
        return self.ladder.steps[self.ladder.first()]

    # One inference

    def _serve(self, requests: list[Request]) -> list[Result]:
        """Prepare, run and hand out, in this thread, which is in the front."""
        works: list[Work] = []
        try:
            works = self._prepared(requests)
            self._model.acquire()
        finally:
            newer, gone = self._leave_front(works)
        try:
            if gone is not None:
                self._drop(*gone)
            if newer is not None:
                self._drop(works[0].requests[0], SUPERSEDED)
                works = self._prepared([newer])
            ended = [pair for work in works for pair in self._run(work)]
            self._out.acquire()
        finally:
            self._leave_model()
        try:
            for request, result in ended:
                self._end(request, result)
        finally:
            self._out.release()
        return [result for _, result in ended]

    def _prepared(self, requests: list[Request]) -> list[Work]:
        work = Work(requests, self._step())
        work.prepare(self.clock)
        if work.error is None or len(requests) == 1:
            return [work]
        return self._one_by_one(work)

    def _one_by_one(self, work: Work) -> list[Work]:
        works = work.apart()
        for one in works:
            one.prepare(self.clock)
        return works

    def _leave_front(self, works: list[Work]) -> tuple[Request | None, Dropped | None]:
        """Let the next one in. With policy latest, the item to run instead, where the model before took so long that
        the one that waits is newer by half an inference; or that one, if it must go."""
        with self.lock:
            newer, gone = None, None
            self._front = False
            waiting = self.intake.waiting
            if waiting and works and self.intake.policy == "latest":
                mine, step = works[0].requests[0], works[0].step
                gained = waiting[0].captured - mine.captured
                if mine.future is not None and gained > max(step.run_time().expected / 2, 2 * step.preparing.expected):
                    newer, gone = self._admit(waiting.popleft(), self.clock())
            if self.interval:
                self._next_start = self.clock() + self.interval
            if waiting or self._closed:
                self.changed.notify_all()
            return newer, gone

    def _leave_model(self) -> None:
        with self.lock:
            self._busy_until, self._free_at = None, self.clock()
            self._model.release()
            if self.intake.waiting:
                self.changed.notify()

    def _run(self, work: Work) -> Ended:
        """The model, for requests that may still meet their deadline."""
        step, count = work.step, len(work.requests)
        if work.error is None:
            now = self.clock()
            if not any(self._in_time(request, now, step, count) for request in work.requests):
                step.fade()
                return [(request, request.drop(LATE, now)) for request in work.requests]
            self._busy_until = now + step.run_time(count).expected
            work.run(self.clock)
            if work.error is not None and count > 1:
                return [pair for one in self._one_by_one(work) for pair in self._run(one)]
            if self.ladder.cascade is not None:
                work.climb(self.ladder, self.clock)
        return list(zip(work.requests, work.results(self.clock()), strict=True))

    def _drop(self, request: Request, reason: str) -> Result:
        result = request.drop(reason, self.clock())
        self._end(request, result)
        return result

    def _end(self, request: Request, result: Result) -> None:
        """Count it, and hand it out."""
        self.recorder.ended(result)
        if request.deadline is not None and (result.dropped is None or result.dropped == LATE):
            missed = result.late or result.dropped == LATE
            self.ladder.settle(missed, self.clock(), request.deadline - request.captured)
        future = request.future
        if (
            future is not None
            and result.dropped != CANCELLED
            and (future.running() or future.set_running_or_notify_cancel())
        ):
            future.set_result(result)


def _open_up(space: list[Future[None]]) -> None:
    """There is room: tell those who wait for it."""
    for one in space:
        if one.set_running_or_notify_cancel():
            one.set_result(None)
