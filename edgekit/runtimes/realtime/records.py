"""A request to a stream, and what became of it. All times are of one monotonic clock."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from edgekit.errors import EdgekitError, StreamError

# Why a request was dropped, always before its model ran.
SUPERSEDED = "superseded"  # policy latest: a newer one came
OVERFLOW = "overflow"  # policy queue, full="oldest": it was the oldest of a full queue
REFUSED = "refused"  # policy queue, full="refuse": it came to a full queue
LATE = "late"  # it could not meet its deadline any more
RATE = "rate"  # it could have, but for the governor's limit of the rate
PAUSED = "paused"  # the governor paused the stream
CANCELLED = "cancelled"  # its future was cancelled
CLOSED = "closed"  # the stream was closed
REASONS = (SUPERSEDED, OVERFLOW, REFUSED, LATE, RATE, PAUSED, CANCELLED, CLOSED)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request.

    ``number`` counts the stream's requests from 0. Exactly one of ``answer``, ``error`` and ``dropped`` (the reason) is
    set. The five times, in ms, sum up to ``age_ms``, from ``captured`` (seconds of ``time.monotonic``) to the answer or
    the drop: ``capture_ms`` until the stream had it, ``queue_ms`` waiting in it, then the parts of the inference.
    ``late``: it was answered, or failed, past its deadline. ``rung`` and ``engine`` answered; ``tried`` are all
    rungs that ran, in order; ``batch``: how many requests ran in one call.
    """

    number: int
    item: Any
    captured: float
    answer: Any = None
    error: EdgekitError | None = None
    dropped: str | None = None
    late: bool = False
    deadline_ms: float | None = None
    capture_ms: float = 0.0
    queue_ms: float = 0.0
    preprocess_ms: float = 0.0
    model_ms: float = 0.0
    postprocess_ms: float = 0.0
    age_ms: float = 0.0
    rung: str = ""
    engine: str = ""
    tried: tuple[str, ...] = ()
    batch: int = 1

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.dropped is None and self.error is None

    def get(self) -> Any:
        """The answer. Raises the model's error, or ``StreamError`` for a request that was dropped."""
        if self.error is not None:
            raise self.error
        if self.dropped is not None:
            raise StreamError(f"request {self.number}", found=f"dropped: {self.dropped}", expected="an answer")
        return self.answer


class Request:
    """One item on its way. ``deadline``: seconds of the clock, None without one; ``future``: None for a caller who
    serves it himself."""

    __slots__ = ("arrived", "captured", "deadline", "future", "item", "number")

    def __init__(
        self,
        number: int,
        item: Any,
        captured: float,
        arrived: float,
        deadline: float | None,
        future: Future[Result] | None,
    ) -> None:
        self.number, self.item, self.captured, self.arrived = number, item, captured, arrived
        self.deadline, self.future = deadline, future

    def drop(self, reason: str, now: float) -> Result:
        """Its result where nothing ran."""
        return Result(
            self.number,
            self.item,
            self.captured,
            dropped=reason,
            deadline_ms=self.deadline_ms,
            capture_ms=1e3 * (self.arrived - self.captured),
            queue_ms=1e3 * (now - self.arrived),
            age_ms=1e3 * (now - self.captured),
        )

    @property
    def deadline_ms(self) -> float | None:
        """From its capture."""
        return None if self.deadline is None else 1e3 * (self.deadline - self.captured)
