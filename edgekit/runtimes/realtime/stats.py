"""What a stream did, in counters and in a bounded window: its memory never grows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgekit.errors import InputError
from edgekit.runtimes.realtime.records import LATE, REASONS, Result

TIMES = ("age", "capture", "queue", "preprocess", "model", "postprocess")
LARGEST_WINDOW = 1 << 20


class Percentiles(NamedTuple):
    """Of a duration, ms."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class Stats:
    """A stream at one moment.

    Since its start: ``seconds``, ``requests``, ``answers`` (``late`` counts those, and errors, past their deadline),
    ``errors``, ``dropped`` by reason, ``answers_by_rung``, ``unread`` (answers that the reader of an iterator was too
    slow for) and ``total_s`` of each time of the answers. Now: ``waiting`` requests, ``queue_age_ms`` of the oldest,
    ``level`` and ``rung`` of the ladder, ``paused``, ``rate_limit_hz``. Over the last ``window`` at most: ``miss_rate``
    (of the requests with a deadline that were answered, failed or dropped as late, the share past it), ``arrival_hz``,
    ``answer_hz``, and ``times``: percentiles of the answers' times by name, empty before the first.
    """

    seconds: float
    requests: int
    answers: int
    late: int
    errors: int
    unread: int
    dropped: dict[str, int]
    answers_by_rung: dict[str, int]
    total_s: dict[str, float]
    waiting: int
    queue_age_ms: float
    level: int
    rung: str
    paused: bool
    rate_limit_hz: float | None
    miss_rate: float
    arrival_hz: float
    answer_hz: float
    times: dict[str, Percentiles]

    def prometheus(self, prefix: str = "edgekit_stream") -> str:
        """In Prometheus's text format, version 0.0.4; times in seconds, as its conventions ask."""
        from edgekit.runtimes.realtime.prometheus import text  # not needed by most

        return text(self, prefix)


class Recorder:
    """Counts and remembers. ``window``: how many of the last requests it remembers, some 0.4 kB each.

    Rows are tuples in lists of fixed length: after an inference, when all caches are cold, writing to a numpy array
    would take longer than all the rest here.
    """

    def __init__(self, window: int, clock: Callable[[], float]) -> None:
        if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= LARGEST_WINDOW:
            raise InputError("window", found=repr(window), expected=f"1 to {LARGEST_WINDOW}")
        self._clock, self._lock, self._window = clock, threading.Lock(), window
        self._started = clock()
        self._arrivals = [0.0] * window
        self._ends = [0.0] * window
        self._times: list[tuple[float, ...]] = [()] * window
        self._misses = [False] * window
        self._totals = [0.0] * len(TIMES)
        self._settled = 0  # requests that count for the miss rate
        self.requests = self.answers = self.late = self.errors = self.unread = 0
        self._dropped = dict.fromkeys(REASONS, 0)
        self._by_rung: dict[str, int] = {}

    def arrived(self, now: float) -> int:
        """A request came; gives its number."""
        with self._lock:
            number = self.requests
            self._arrivals[number % self._window] = now
            self.requests += 1
            return number

    def ended(self, result: Result) -> None:
        """A request came to its end."""
        with self._lock:
            missed = result.late or result.dropped == LATE
            if result.deadline_ms is not None and (result.dropped is None or missed):
                self._misses[self._settled % self._window] = missed
                self._settled += 1
            if result.dropped is not None:
                self._dropped[result.dropped] += 1
                return
            self.late += result.late
            if result.error is not None:
                self.errors += 1
                return
            row = self.answers % self._window
            times = (
                result.age_ms, result.capture_ms, result.queue_ms,
                result.preprocess_ms, result.model_ms, result.postprocess_ms,
            )  # fmt: skip
            self._times[row] = times
            self._ends[row] = self._clock()
            self._totals = [total + one for total, one in zip(self._totals, times, strict=True)]
            self._by_rung[result.rung] = self._by_rung.get(result.rung, 0) + 1
            self.answers += 1

    def missed_by_reader(self) -> None:
        """An answer was pushed out of an iterator by a newer one."""
        with self._lock:
            self.unread += 1

    def answer_hz(self, seconds: float) -> float:
        """Answers a second over the last ``seconds``, as far as the window reaches."""
        with self._lock:
            return _rate(self._ends[: min(self.answers, self._window)], self._clock(), seconds)

    def stats(
        self, waiting: int, queue_age_ms: float, level: int, rung: str, paused: bool, rate_limit_hz: float | None
    ) -> Stats:
        """All of it, with what only the stream knows."""
        with self._lock:
            now = self._clock()
            kept = min(self.answers, self._window)
            times = self._times[:kept]
            counted = min(self._settled, self._window)
            return Stats(
                seconds=now - self._started,
                requests=self.requests,
                answers=self.answers,
                late=self.late,
                errors=self.errors,
                unread=self.unread,
                dropped=dict(self._dropped),
                answers_by_rung=dict(self._by_rung),
                total_s={name: total / 1e3 for name, total in zip(TIMES, self._totals, strict=True)},
                waiting=waiting,
                queue_age_ms=queue_age_ms,
                level=level,
                rung=rung,
                paused=paused,
                rate_limit_hz=rate_limit_hz,
                miss_rate=sum(self._misses[:counted]) / counted if counted else 0.0,
                arrival_hz=_rate(self._arrivals[: min(self.requests, self._window)], now, now - self._started),
                answer_hz=_rate(self._ends[:kept], now, now - self._started),
                times=_percentiles(times) if kept else {},
            )


def _rate(moments: list[float], now: float, seconds: float) -> float:
    """Of ``moments`` in the last ``seconds``; where all of them are younger, over their own span."""
    recent = [moment for moment in moments if moment >= now - seconds]
    if not recent:
        return 0.0
    span = now - min(recent) if len(recent) == len(moments) else seconds
    return len(recent) / max(span, 1e-3)


def _percentiles(times: list[tuple[float, ...]]) -> dict[str, Percentiles]:
    found = np.percentile(times, [50, 90, 99, 100], axis=0)
    return {name: Percentiles(*(float(value) for value in found[:, place])) for place, name in enumerate(TIMES)}
