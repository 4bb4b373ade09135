"""What to try next: model files in order of preference, each with its failures and the time until its next chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.runtimes.choose import Choice

PRIMARY, LAST_GOOD = "bundle", "last good bundle"


@dataclass(frozen=True)
class Candidate:
    """A model file in an engine; ``role``: of the bundle itself, or of the last good one."""

    bundle: Path
    choice: Choice
    role: str = PRIMARY

    def __str__(self) -> str:
        return f"{self.choice.engine} on {self.bundle.name}/{self.choice.file}"


@dataclass
class _Record:
    failures: int = 0  # since it last answered well for a while
    not_before: float = 0.0  # monotonic seconds
    wait_s: float = 0.0  # the backoff that it had last


class Plan:
    """``candidates``, best first. Times are seconds of one monotonic clock.

    A candidate that fails is tried again at once ``restarts`` times; then it rests, for ``backoff_s[0]`` seconds and
    twice as long after each further failure, up to ``backoff_s[1]``. While it rests, and until it has answered well
    for a while (:meth:`settled`), one failure is enough.
    """

    def __init__(self, candidates: Sequence[Candidate], restarts: int = 1, backoff_s: tuple[float, float] = (0.5, 60)):
        self.candidates = list(candidates)
        self._restarts, self._backoff_s = restarts, backoff_s
        self._records = {candidate: _Record() for candidate in self.candidates}

    def next(self, now: float) -> Candidate | None:
        """The best one that may be tried now."""
        return next((one for one in self.candidates if self._records[one].not_before <= now), None)

    def better(self, than: Candidate, now: float) -> Candidate | None:
        """The best one that may be tried now and comes before ``than``."""
        found = self.next(now)
        places = self.candidates
        return found if found is not None and places.index(found) < places.index(than) else None

    def earliest(self, before: Candidate | None = None) -> float:
        """When the first of them may be tried, or of those that come before ``before``; infinity for none."""
        places = self.candidates if before is None else self.candidates[: self.candidates.index(before)]
        return min((self._records[one].not_before for one in places), default=math.inf)

    def failed(self, candidate: Candidate, now: float, opening: bool = False) -> None:
        """Its session failed; ``opening``: it could not even be opened, so that no restart is due."""
        record = self._records[candidate]
        record.failures += 1
        if opening or record.failures > self._restarts:
            least, most = self._backoff_s
            record.wait_s = min(max(least, 2 * record.wait_s), most)
            record.not_before = now + record.wait_s
            record.failures = self._restarts

    def settled(self, candidate: Candidate) -> None:
        """It has answered well for a while: what was before is forgotten."""
        self._records[candidate] = _Record()
