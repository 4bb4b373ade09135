"""Progress on stderr: bars with an ETA on a terminal, a line every ten seconds anywhere else."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBars

from edgekit.progress import Progress, Silent

EVERY_S = 10.0


class Bars:
    """Bars of rich, gone when they are done."""

    def __init__(self) -> None:
        self._bars = RichBars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._bars.start()

    def start(self, label: str, total: int) -> int:
        return self._bars.add_task(label, total=max(total, 1), note="")

    def advance(self, handle: int, steps: int = 1, note: str = "") -> None:
        if note:
            self._bars.update(TaskID(handle), note=note)
        self._bars.advance(TaskID(handle), steps)

    def finish(self, handle: int) -> None:
        self._bars.remove_task(TaskID(handle))

    def say(self, line: str) -> None:
        self._bars.console.print(line, markup=False)

    def close(self) -> None:
        """Give the terminal back."""
        self._bars.stop()


@dataclass
class _Task:
    label: str
    total: int
    began: float
    told: float
    done: int = 0
    spoke: bool = False


class Lines:
    """A line every ``every`` seconds with percent and ETA, for logs."""

    def __init__(self, out: TextIO | None = None, every: float = EVERY_S) -> None:
        self._out, self._every = out or sys.stderr, every
        self._tasks: dict[int, _Task] = {}
        self._next = 0

    def start(self, label: str, total: int) -> int:
        self._next += 1
        now = time.monotonic()
        self._tasks[self._next] = _Task(label, max(total, 1), now, now)
        return self._next

    def advance(self, handle: int, steps: int = 1, note: str = "") -> None:
        task = self._tasks[handle]
        task.done += steps
        now = time.monotonic()
        if now - task.told < self._every:
            return
        task.told, task.spoke = now, True
        left = (now - task.began) / max(task.done, 1) * max(task.total - task.done, 0)
        share = min(100.0, 100 * task.done / task.total)
        self.say(f"{task.label}: {share:.0f} % ({task.done} of {task.total}), ETA {clock(left)}{note and f', {note}'}")

    def finish(self, handle: int) -> None:
        task = self._tasks.pop(handle)
        if task.spoke:
            self.say(f"{task.label}: done in {clock(time.monotonic() - task.began)}")

    def say(self, line: str) -> None:
        print(line, file=self._out, flush=True)

    def close(self) -> None:
        """Nothing is held."""


def clock(seconds: float) -> str:
    """Such as 1:05 or 2:00:09."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Shown:
    """``with Shown() as progress``: the listener that fits stderr; of several processes only the first has one."""

    def __enter__(self) -> Progress:
        self._listener: Bars | Lines | None = None
        if os.environ.get("RANK", "0") != "0":
            return Silent()
        self._listener = Bars() if sys.stderr.isatty() else Lines()
        return self._listener

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._listener is not None:
            self._listener.close()
