"""What was done and why: a bounded log of events and the counters, in memory and as Prometheus text."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STEPS = (
    "start",
    "fault",
    "restart",
    "next engine",
    "last good bundle",
    "return",
    "failed",
    "no answer",
    "stuck",
    "check",
)


@dataclass(frozen=True)
class Event:
    """One step of :data:`STEPS`: when (seconds since 1970), on what, why, and how long it took in ms."""

    time: float
    step: str
    what: str
    reason: str
    took_ms: float = 0.0


class Journal:
    """The last ``size`` events, and counts of all. ``clock``: the wall clock; ``on_event`` is told of each event.

    A hook that raises is not asked what it wanted: recovery goes on.
    """

    def __init__(
        self, size: int, on_event: Callable[[Event], None] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._events: deque[Event] = deque(maxlen=size)
        self._steps: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._recoveries: deque[float] = deque(maxlen=size)
        self._on_event, self._clock = on_event, clock
        self._lock = threading.Lock()

    def add(self, step: str, what: object, reason: str, took_s: float = 0.0, kind: str = "") -> None:
        """Log one event; ``kind``: of a fault."""
        event = Event(self._clock(), step, str(what), reason[:500], round(1e3 * took_s, 3))
        with self._lock:
            self._events.append(event)
            self._steps[step] += 1
            if kind:
                self._faults[kind] += 1
        if self._on_event is not None:
            with contextlib.suppress(Exception):
                self._on_event(event)

    def recovered(self, took_s: float) -> None:
        """From a fault to the next session that serves."""
        with self._lock:
            self._recoveries.append(1e3 * took_s)

    @property
    def events(self) -> list[Event]:
        """Oldest first."""
        with self._lock:
            return list(self._events)

    def counts(self) -> dict[str, Any]:
        """``steps`` and ``faults`` by name, and the latest ``recovery_ms``, oldest first."""
        with self._lock:
            return {
                "steps": dict(self._steps),
                "faults": dict(self._faults),
                "recovery_ms": [round(one, 3) for one in self._recoveries],
            }


def prometheus(health: dict[str, Any]) -> str:
    """What ``Guarded.health`` gave, in Prometheus' text format, version 0.0.4."""
    gauges = {
        "serving": (health["state"] != "down", "1 while a session serves"),
        "degraded": (health["state"] == "degraded", "1 while another than the first choice serves"),
        "abandoned_threads": (health["abandoned_threads"], "threads that hang in native code"),
        "restart_process": (health["restart_process"], "1 when only a new process helps"),
        "worker_resident_bytes": (health["worker_rss_bytes"] or 0, "memory of the worker process"),
    }
    lines = []
    for name, (value, text) in gauges.items():
        lines += [f"# HELP edgekit_guard_{name} {text}", f"# TYPE edgekit_guard_{name} gauge"]
        lines.append(f"edgekit_guard_{name} {int(value)}")
    for name in ("answers", "no_answers"):
        lines += [f"# TYPE edgekit_guard_{name}_total counter", f"edgekit_guard_{name}_total {health[name]}"]
    for name, label in (("faults", "kind"), ("steps", "step")):
        lines.append(f"# TYPE edgekit_guard_{name}_total counter")
        lines += [f'edgekit_guard_{name}_total{{{label}="{key}"}} {n}' for key, n in sorted(health[name].items())]
    return "\n".join(lines) + "\n"
