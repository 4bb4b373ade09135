"""Some requests on their way through a rung: prepared, run, cascaded, timed."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any

from edgekit.errors import EdgekitError, EngineError
from edgekit.runtimes.realtime.ladder import Ladder, Step, confidence
from edgekit.runtimes.realtime.records import Request, Result

Clock = Callable[[], float]


class Work:
    """Requests that go through a model in one call. Times in seconds."""

    def __init__(self, requests: Sequence[Request], step: Step) -> None:
        self.requests, self.step, self.face = list(requests), step, step.face
        self.prepared: Any = None
        self.answers: list[Any] = []
        self.error: EdgekitError | None = None
        self.preparing = self.running = self.finishing = 0.0
        self.tried: tuple[str, ...] = ()
        self.engine = ""

    def prepare(self, clock: Clock) -> None:
        """First part. What the model raises becomes ``error``."""
        start = clock()
        try:
            self.prepared = self.face.prepare([request.item for request in self.requests])
        except (Exception, SystemExit) as error:
            self.error = typed(error, self.step.rung.name)
        seconds = clock() - start
        self.preparing += seconds
        if self.error is None:
            self.step.preparing.add(seconds / len(self.requests))

    def run(self, clock: Clock) -> None:
        """Second and third part."""
        self.tried += (self.step.rung.name,)
        start = middle = clock()
        try:
            raw = self.face.forward(self.prepared)
            self.engine = self.face.engine  # after it: a guarded model may have gone on in another one
            middle = clock()
            self.answers = self.face.finish(self.prepared, raw)
            if len(self.answers) != len(self.requests):
                raise EngineError("answers", found=len(self.answers), expected=len(self.requests))
        except (Exception, SystemExit) as error:
            self.error = typed(error, self.step.rung.name)
        self.prepared = None
        end = clock()
        middle = end if middle == start else middle
        self.running += middle - start
        self.finishing += end - middle
        if self.error is None:
            self.step.ran(len(self.requests), end - start)

    def climb(self, ladder: Ladder, clock: Clock) -> None:
        """Ask larger rungs while the answer is not sure enough and the deadline allows. Of one request."""
        place, request = ladder.steps.index(self.step), self.requests[0]
        while self.error is None and place > ladder.level:
            try:
                if ladder.cascade is None or confidence(self.answers[0]) >= ladder.cascade:
                    return
            except EdgekitError as error:
                self.error = typed(error, self.step.rung.name)
                return
            place -= 1
            upper = ladder.steps[place]
            needed = upper.preparing.cautious + upper.run_time().cautious
            if request.deadline is not None and clock() + needed > request.deadline:
                upper.fade()
                return
            self._ask(upper, clock)

    def _ask(self, upper: Step, clock: Clock) -> None:
        """Answer by ``upper`` instead; where it fails, the answer that there is stays."""
        more = Work(self.requests, upper)
        more.prepare(clock)
        if more.error is None:
            more.run(clock)
        self.tried += more.tried
        self.preparing += more.preparing
        self.running += more.running
        self.finishing += more.finishing
        if more.error is None:
            self.step, self.face, self.answers, self.engine = upper, more.face, more.answers, more.engine

    def apart(self) -> list[Work]:
        """A work for each request: one bad item must not cost its neighbours their answers."""
        return [Work([request], self.step) for request in self.requests]

    def results(self, now: float) -> list[Result]:
        """What became of each, at ``now``."""
        return [self._result(request, place, now) for place, request in enumerate(self.requests)]

    def _result(self, request: Request, place: int, now: float) -> Result:
        error, age = self.error, now - request.captured
        capture = request.arrived - request.captured
        ran = self.preparing + self.running + self.finishing
        return Result(
            request.number,
            request.item,
            request.captured,
            None if error else self.answers[place],
            error,
            None,
            request.deadline is not None and now > request.deadline,
            request.deadline_ms,
            1e3 * capture,
            1e3 * (age - capture - ran),
            1e3 * self.preparing,
            1e3 * self.running,
            1e3 * self.finishing,
            1e3 * age,
            self.step.rung.name,
            self.engine,
            self.tried,
            len(self.requests),
        )


def typed(error: BaseException, rung: str) -> EdgekitError:
    """Whatever a model throws, as an error of ours. Tracebacks go (a foreign one is kept as a note, as text): through
    their frames an error would hold the request that holds it, and with it the model that failed, until Python's
    collector comes by."""
    found = error
    if not isinstance(found, EdgekitError):
        if not hasattr(error, "__notes__"):  # the same one may be raised again and again
            error.add_note("".join(traceback.format_tb(error.__traceback__)))
        found = EngineError(f"model {rung}", found=f"{type(error).__name__}: {error}")
        found.__cause__ = error
    _without_frames(found)
    return found


def _without_frames(error: BaseException | None) -> None:
    if error is not None:
        error.__traceback__ = None
        _without_frames(error.__cause__)
        _without_frames(error.__context__)
