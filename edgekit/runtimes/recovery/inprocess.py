"""Engines in this process, on a thread that is left behind when it hangs: nothing can end a native call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.runtimes import engines
from edgekit.runtimes.engines import Engine
from edgekit.runtimes.recovery.faults import Fault, thrown
from edgekit.runtimes.recovery.place import Guard, Wrap, about

_Reply = SimpleQueue[tuple[Any, BaseException | None]]
_Job = tuple[Callable[..., Any], tuple[Any, ...], _Reply]


class Abandoned:
    """The threads that hang. One that comes back after all is counted no more; its answer goes nowhere."""

    def __init__(self) -> None:
        self.total = 0
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def add(self, thread: threading.Thread) -> None:
        """Count ``thread`` until it ends."""
        with self._lock:
            self.total += 1
            self._threads.append(thread)

    def now(self) -> int:
        """How many still hang."""
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            return len(self._threads)


class InProcess:
    """A thread that loads and runs the engines of one session. See :class:`~.place.Place`."""

    def __init__(self, limit_s: float, abandoned: Abandoned, wrap: Wrap | None = None) -> None:
        self.limit_s = limit_s
        self._abandoned, self._wrap = abandoned, wrap
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._turn = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=_serve, args=(self._jobs,), name="edgekit-engine", daemon=True)
        self._thread.start()

    def create(
        self, engine: str, path: Path, threads: int, inputs: tuple[str, ...], output: str, precision: str
    ) -> Engine:
        """Load ``path`` on the thread. Raises ``Fault``, and the ``EdgekitError`` that says why it cannot be loaded."""
        given = (engine, path, threads, inputs, output, precision)
        made: Engine = self._call(engines.create, given, self.limit_s, f"loading {path.name} in {engine}")
        if self._wrap is not None:
            made = self._wrap(made, engine)
        what = f"{engine} on {path.name}"
        return Guard(
            self,
            lambda method, arrays, limit_s: self._call(getattr(made, method), arrays, limit_s, what),
            what,
            about(made),
        )

    def rss_bytes(self) -> int | None:
        """None: the memory is this process's own."""
        return None

    def close(self) -> None:
        """Let the thread end after what it does now."""
        self._ended = True
        self._jobs.put(None)

    def _call(self, function: Callable[..., Any], given: tuple[Any, ...], limit_s: float, what: str) -> Any:
        reply: _Reply = SimpleQueue()
        with self._turn:
            if self._ended:
                raise Fault("closed", what)
            self._jobs.put((function, given, reply))
            try:
                value, error = reply.get(timeout=limit_s)
            except Empty:
                self._ended = True
                self._abandoned.add(self._thread)
                self._jobs.put(None)  # should it come back
                raise Fault("hang", what, found=f"no answer in {1e3 * limit_s:.0f} ms") from None
        if error is None:
            return value
        try:
            if isinstance(error, EdgekitError) and function is engines.create:
                raise error
            raise thrown(error, what)
        finally:
            del error  # its traceback holds this frame, which holds it, and with it an engine


def _serve(jobs: SimpleQueue[_Job | None]) -> None:
    """Each job has a reply of its own: what comes late reaches nobody."""
    while (job := jobs.get()) is not None:
        function, given, reply = job
        try:
            value, error = function(*given), None
        except BaseException as raised:
            value, error = None, raised
        reply.put((value, error))
        del job, function, given, reply, value, error  # nothing is held while it waits
