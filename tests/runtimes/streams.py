"""Models for tests of streams: real ones, with a gate before them or a clock that they move."""

from __future__ import annotations

import threading
from typing import Any


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Paced:
    """Answers ``item``; each part moves ``clock`` by so many seconds, which a test may change."""

    engine = "paced"

    def __init__(self, clock: Clock, model_s: float = 0.02, prepare_s: float = 0.0) -> None:
        self.clock, self.model_s, self.prepare_s = clock, model_s, prepare_s
        self.ran: list[Any] = []

    def prepare(self, item: Any) -> Any:
        self.clock.now += self.prepare_s
        return item

    def forward(self, prepared: Any) -> Any:
        self.ran.append(prepared)
        self.clock.now += self.model_s
        return prepared

    def finish(self, prepared: Any, raw: Any) -> Any:
        assert prepared == raw
        return raw


class Gated:
    """A real model whose every forward waits to be let through; ``entered`` and ``prepared`` count."""

    engine = "gated"

    def __init__(self, model: Any) -> None:
        self.model = model
        self.gate, self.entered, self.prepared = (threading.Semaphore(0) for _ in range(3))
        self.order: list[Any] = []

    def prepare(self, item: Any) -> Any:
        found = self.model.prepare(item)
        self.prepared.release()
        return item, found

    def forward(self, prepared: Any) -> Any:
        self.order.append(prepared[0])
        self.entered.release()
        assert self.gate.acquire(timeout=30)
        return self.model.forward(prepared[1])

    def finish(self, prepared: Any, raw: Any) -> Any:
        return self.model.finish(prepared[1], raw)

    def open(self, count: int = 1000) -> None:
        """Let ``count`` through."""
        self.gate.release(count)
