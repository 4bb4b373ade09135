"""How long the next inference will take, by those before it."""

from __future__ import annotations

# Jacobson's estimator (Congestion Avoidance and Control, 1988): a smoothed mean, and a smoothed deviation beside it.
_MEAN_GAIN, _DEVIATION_GAIN = 1 / 8, 1 / 4
_DEVIATIONS = 2.0
_FADE = 0.95


class Estimate:
    """A running estimate of one duration, in seconds. Not locked: one thread at a time adds."""

    __slots__ = ("deviation", "mean")

    def __init__(self) -> None:
        self.mean: float | None = None
        self.deviation = 0.0

    def add(self, seconds: float) -> None:
        """One more was measured."""
        if self.mean is None:
            self.mean, self.deviation = seconds, seconds / 4
            return
        error = seconds - self.mean
        self.mean += _MEAN_GAIN * error
        self.deviation += _DEVIATION_GAIN * (abs(error) - self.deviation)

    @property
    def expected(self) -> float:
        """The mean; 0 before the first."""
        return self.mean or 0.0

    @property
    def cautious(self) -> float:
        """What all but a few stay below; 0 before the first, so that one runs and is measured."""
        return 0.0 if self.mean is None else self.mean + _DEVIATIONS * self.deviation

    def fade(self) -> None:
        """A request was dropped for this estimate. It shrinks by a twentieth, so that one that is out of date, after a
        stall say, does not drop everything for ever: in the end one runs and is measured."""
        if self.mean is not None:
            self.mean *= _FADE
            self.deviation *= _FADE

    def forget(self) -> None:
        """Back to the start."""
        self.mean, self.deviation = None, 0.0
