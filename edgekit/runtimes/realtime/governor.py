"""Keeps a board within its limits: reads it, and slows a stream down or lets it go again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from edgekit.runtimes.realtime.controller import Controller
from edgekit.runtimes.realtime.events import KEPT, Event
from edgekit.runtimes.realtime.settings import GovernorSettings
from edgekit.runtimes.realtime.stream import Stream
from edgekit.runtimes.telemetry.read import Telemetry
from edgekit.runtimes.telemetry.readings import Readings

_RATE_OVER_S = 5.0  # what the rate was is counted over so long


class _Action(NamedTuple):
    """``do`` gives what it did in words, or "" where there is nothing to do it to."""

    name: str
    do: Callable[[], str]
    undo: Callable[[], None]


class Governor:
    """``with Governor(stream):`` reads the board every ``period_s`` in a thread, and acts on the stream.

    ``read``: gives the readings, by default those of this machine. ``log``: the last 256 things that it did, each with
    its reason and what was read; ``readings``: the last ones. What it did is undone when it ends. :meth:`step` is one
    round, for those who have a loop of their own and need no thread.
    """

    def __init__(
        self,
        stream: Stream,
        settings: GovernorSettings | None = None,
        read: Callable[[], Readings] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream, self.settings = stream, settings or GovernorSettings()
        self.readings: Readings | None = None
        self.log: deque[Event] = deque(maxlen=KEPT)
        self._read = Telemetry().read if read is None else read
        self._clock = clock
        self._actions = [one for name in self.settings.actions for one in self._made_of(name)]
        self._controller = Controller(self.settings, len(self._actions))
        self._stage = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stage(self) -> int:
        """How many of the actions are in force; 0 is normal."""
        return self._stage

    def step(self) -> int:
        """Read, decide, act. The stage after it."""
        self.readings = self._read()
        wanted = self._controller.decide(self.readings, self._clock())
        if wanted > self._stage:
            # The last one first: where it is critical, that is the pause, and nothing may delay it.
            for action in reversed(self._actions[self._stage : wanted]):
                self._do(action)
        elif wanted < self._stage:
            for action in reversed(self._actions[wanted : self._stage]):
                action.undo()
                self._note(f"undone: {action.name}", self._controller.reason)
        self._stage = wanted
        return wanted

    def start(self) -> None:
        """Begin to look, in a thread."""
        self._thread = threading.Thread(target=self._loop, name="edgekit-governor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and undo what is in force."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for action in reversed(self._actions[: self._stage]):
            action.undo()
            self._note(f"undone: {action.name}", "the governor ended")
        self._stage = 0

    def __enter__(self) -> Governor:
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _loop(self) -> None:
        while not self._stop.wait(self.settings.period_s):
            try:
                self.step()
            except Exception as error:
                self._note("failed: reading", f"{type(error).__name__}: {error}")

    def _do(self, action: _Action) -> None:
        try:
            done = action.do()
        except Exception as error:
            # A board that is hot must not lose its governor because a model did not load.
            self._note(f"failed: {action.name}", f"{type(error).__name__}: {error}")
            return
        self._note(done or f"nothing to do: {action.name}", self._controller.reason)

    def _note(self, action: str, reason: str) -> None:
        self.log.append(Event(self._clock(), action, reason, self.readings))

    def _made_of(self, name: str) -> list[_Action]:
        """What an action of the settings means for this stream's ladder; nothing where it has no such thing."""
        ladder = self.stream.ladder
        if name == "rate":
            return [_Action("rate", self._reduce_rate, lambda: self.stream.limit_rate(None))]
        if name == "ladder":
            return [self._rung(level) for level in range(1, len(ladder.steps))]
        if name == "threads":
            return (
                [_Action("threads", self._drop_threads, lambda: ladder.drop_threads(False))] if ladder.has_lean else []
            )
        return [_Action("pause", self._pause, lambda: self.stream.pause(False))]

    def _reduce_rate(self) -> str:
        estimate = self.stream.ladder.steps[self.stream.ladder.first()].run_time().expected
        was = self.stream.answer_hz(_RATE_OVER_S) or (1 / estimate if estimate else 0.0)
        if not was:
            return ""
        hz = self.settings.rate * was
        self.stream.limit_rate(hz)
        return f"rate: at most {hz:.3g} a second, from {was:.3g}"

    def _rung(self, level: int) -> _Action:
        ladder = self.stream.ladder
        name = ladder.rungs[level].name

        def down() -> str:
            ladder.govern(level)
            return f"ladder: down to {name}"

        return _Action(f"ladder: down to {name}", down, lambda: ladder.govern(level - 1))

    def _drop_threads(self) -> str:
        self.stream.ladder.drop_threads(True)
        return "threads: fewer"

    def _pause(self) -> str:
        self.stream.pause(True)
        return "pause"
