"""What a ladder or a governor did, and why."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.runtimes.telemetry.readings import Readings

KEPT = 256  # events that a log keeps


@dataclass(frozen=True)
class Event:
    """``at``: seconds of ``time.monotonic``; ``action`` and ``reason`` in words; ``readings``: what was read then."""

    at: float
    action: str
    reason: str
    readings: Readings | None = None
