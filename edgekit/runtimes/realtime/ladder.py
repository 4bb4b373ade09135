"""Several models for one task, the best first: which of them runs now."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import InputError
from edgekit.runtimes.realtime.estimate import Estimate
from edgekit.runtimes.realtime.events import KEPT, Event
from edgekit.runtimes.realtime.faces import Face, face_of

_LONGEST_DWELL = 16  # times ``up_after_s``


@dataclass(frozen=True)
class Rung:
    """A loaded model of a ladder, its accuracy and its latency (as measured somewhere), None where unknown.

    ``lean`` loads the same model with fewer threads; the governor calls it once, when it has to drop threads.
    """

    name: str
    model: Any
    metric: float | None = None
    p50_ms: float | None = None
    lean: Callable[[], Any] | None = None


class Step:
    """A rung at work: its face, and how long its parts take here."""

    def __init__(self, rung: Rung) -> None:
        self.rung = rung
        self.own: Face = face_of(rung.model)
        self.face = self.own
        self.lean: Face | None = None
        self.preparing = Estimate()  # of one item
        self.running: dict[int, Estimate] = {}  # model and postprocessing, by items in the call

    def run_time(self, items: int = 1) -> Estimate:
        """Of a call with ``items``; where none was measured, that of one with fewer, in proportion."""
        found = self.running.get(items)
        if found is not None:
            return found
        estimate = Estimate()
        known = max((size for size in self.running if size < items), default=None)
        if known is not None and self.running[known].mean is not None:
            estimate.mean = self.running[known].expected * items / known
            estimate.deviation = self.running[known].deviation * items / known
        return estimate

    def ran(self, items: int, seconds: float) -> None:
        """A call was measured."""
        self.running.setdefault(items, Estimate()).add(seconds)

    def fade(self) -> None:
        """A request was dropped for these estimates."""
        for estimate in (self.preparing, *self.running.values()):
            estimate.fade()

    def forget(self) -> None:
        """The model has changed, or times have."""
        self.preparing.forget()
        self.running.clear()


class Ladder:
    """``rungs``: the best model first. One stream uses it.

    It goes down a rung when ``down_after`` of the last ``window`` requests missed their deadline, and up again when
    none did for ``up_after_s`` and, where both rungs state ``p50_ms``, the larger one is expected to take at most
    ``headroom`` of the deadline. A rung that fails soon after going up doubles that time, up to 16-fold. The governor
    may hold it lower (:meth:`govern`). ``cascade``: for classification, begin at the last rung, and ask the next larger
    one while the best label's probability is lower than this and the deadline allows. ``log``: its last 256 changes.

    Raises ``InputError`` for no rungs, a name twice, or numbers out of range.
    """

    def __init__(
        self,
        rungs: Sequence[Rung],
        cascade: float | None = None,
        window: int = 20,
        down_after: int = 3,
        up_after_s: float = 5.0,
        headroom: float = 0.8,
    ) -> None:
        names = [rung.name for rung in rungs]
        if not names or len(set(names)) < len(names):
            raise InputError("rungs", found=names, expected="one or more, each with a name of its own")
        if cascade is not None and not 0 < cascade <= 1:
            raise InputError("cascade", found=cascade, expected="a probability above 0, or None")
        if not 1 <= down_after <= window:
            raise InputError("down_after", found=down_after, expected=f"1 to window, which is {window}")
        if not up_after_s > 0 or not headroom > 0:
            raise InputError("up_after_s, headroom", found=(up_after_s, headroom), expected="above 0")
        self.steps = [Step(rung) for rung in rungs]
        self.cascade, self.down_after = cascade, down_after
        self.up_after_s, self.headroom = up_after_s, headroom
        self.log: deque[Event] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._recent: deque[bool] = deque(maxlen=window)
        self._own = self._governed = 0
        self._dwell = up_after_s
        self._quiet_since: float | None = None
        self._up_at: float | None = None

    @classmethod
    def from_bundle(
        cls,
        path: str | Path,
        threads: int | None = None,
        engine: str = "auto",
        *,
        adapt: Callable[[Any], Any] = lambda model: model,
        cascade: float | None = None,
        window: int = 20,
        down_after: int = 3,
        up_after_s: float = 5.0,
        headroom: float = 0.8,
        **how: Any,
    ) -> Ladder:
        """All rungs of the ladder that the bundle at ``path`` holds, loaded and proven, each with its stated figures.

        ``engine`` and ``how`` (``trusted_keys``, ``check_hashes``...) as :func:`edgekit.load` takes them. ``adapt``: a
        loaded model to what the stream is to run, such as ``ImageEmbedder``, or a ``ZeroShotClassifier`` of it. With
        more than one thread each rung has a ``lean`` one of one thread. Raises what loading raises, and ``InputError``
        for a bundle without a ladder.
        """
        from edgekit.runtimes.realtime.rungs import rungs_of  # not for ladders made by hand

        found = rungs_of(path, threads, engine, how, adapt)
        return cls(found, cascade, window, down_after, up_after_s, headroom)

    @property
    def rungs(self) -> list[Rung]:
        """As they were given."""
        return [step.rung for step in self.steps]

    @property
    def level(self) -> int:
        """The best rung that may run now: 0, or lower by missed deadlines or by the governor."""
        return max(self._own, self._governed)

    @property
    def lowest(self) -> int:
        """Number of the last rung."""
        return len(self.steps) - 1

    def first(self) -> int:
        """The rung that a new request begins at."""
        return self.lowest if self.cascade is not None else self.level

    def govern(self, level: int) -> None:
        """Hold the ladder at ``level`` or lower, for the governor."""
        with self._lock:
            self._governed = max(0, min(level, self.lowest))
            self._recent.clear()

    def settle(self, missed: bool, now: float, deadline_s: float | None) -> None:
        """A request with a deadline came to its end at ``now``, in time or not."""
        if self.lowest == 0:
            return
        with self._lock:
            self._recent.append(missed)
            if self._quiet_since is None or missed:
                self._quiet_since = now
            if missed and sum(self._recent) >= self.down_after and self.level < self.lowest:
                self._down(now)
            elif self._own > 0 and now - self._quiet_since >= self._dwell and self._fits(deadline_s):
                self._up(now)

    def _down(self, now: float) -> None:
        too_soon = self._up_at is not None and now - self._up_at < self._dwell
        self._dwell = min(2 * self._dwell, _LONGEST_DWELL * self.up_after_s) if too_soon else self.up_after_s
        reason = f"{sum(self._recent)} of the last {len(self._recent)} requests missed their deadline"
        self._own = self.level + 1
        self._changed(now, f"down to {self.steps[self._own].rung.name}", reason)

    def _up(self, now: float) -> None:
        self._own -= 1
        self._up_at = now
        upper = self.steps[self._own]
        upper.forget()  # its times are those of when it was too slow
        self._changed(now, f"up to {upper.rung.name}", f"no deadline missed for {self._dwell:g} s")

    def _changed(self, now: float, action: str, reason: str) -> None:
        self._recent.clear()
        self._quiet_since = now
        self.log.append(Event(now, action, reason))

    def _fits(self, deadline_s: float | None) -> bool:
        """Whether the next larger rung should be in time: by this one's time here and the ratio of the stated ones."""
        here, upper = self.steps[self._own], self.steps[self._own - 1]
        if deadline_s is None or not here.rung.p50_ms or not upper.rung.p50_ms:
            return True
        expected = here.run_time().expected * upper.rung.p50_ms / here.rung.p50_ms
        return expected <= self.headroom * deadline_s

    @property
    def has_lean(self) -> bool:
        """Whether any rung can run with fewer threads."""
        return any(step.rung.lean is not None for step in self.steps)

    def drop_threads(self, drop: bool) -> None:
        """Let each rung that has a ``lean`` model run that, or its own again. A lean model is loaded once and kept.

        Raises what loading raises; then nothing has changed.
        """
        for step in self.steps:
            if drop and step.lean is None and step.rung.lean is not None:
                step.lean = face_of(step.rung.lean())
        for step in self.steps:
            face = step.lean if drop and step.lean is not None else step.own
            if step.face is not face:
                step.face = face
                step.forget()


def confidence(answer: Any) -> float:
    """The best label's probability. Raises ``InputError`` for an answer that has none."""
    scores = getattr(answer, "scores", None)
    if scores is None or not len(scores):
        raise InputError("cascade", found=f"an answer {type(answer).__name__}", expected="one with scores of labels")
    return float(scores.max())
