"""Engines in a worker process: one that crashes, hangs or leaks is killed, and costs one answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgekit.runtimes.engines import Engine
from edgekit.runtimes.process import environment
from edgekit.runtimes.recovery import wire
from edgekit.runtimes.recovery.faults import Fault
from edgekit.runtimes.recovery.place import Guard

_LINGER_S = 0.2  # from the end of a pipe to the end of its process
COMMAND = (sys.executable, "-P", "-m", "edgekit.runtimes.recovery.worker")


class Isolated:
    """A worker that loads and runs the engines of one session. See :class:`~.place.Place`.

    Started with exec, never forked from this process's state. On Linux it dies with the thread that made it, so that
    a hanging worker does not outlive its parent. ``memory_bytes``: 0, or what it may hold; an allocation beyond fails
    in the worker. ``wrap``: "module:function", see ``place.Wrap``.
    """

    def __init__(
        self, limit_s: float, memory_bytes: int = 0, wrap: str = "", command: tuple[str, ...] = COMMAND
    ) -> None:
        self.limit_s = limit_s
        self._memory_bytes, self._wrap = memory_bytes, wrap
        self._turn = threading.Lock()
        self._ended = False
        self._number = self._made = 0
        self.late = 0  # answers to requests that nobody waits for any more
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment(), bufsize=0)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._pipe = wire.Pipe(self._process.stdout.fileno(), self._process.stdin.fileno())

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def create(
        self, engine: str, path: Path, threads: int, inputs: tuple[str, ...], output: str, precision: str
    ) -> Engine:
        """Load ``path`` in the worker. Raises ``Fault``."""
        job = {
            "engine": engine,
            "path": str(Path(path).resolve()),
            "threads": threads,
            "inputs": list(inputs),
            "output": output,
            "precision": precision,
            "wrap": self._wrap,
            "memory_bytes": self._memory_bytes,
        }
        what = f"{engine} on {path.name}, in a worker"
        answer = self._ask(wire.CREATE, 0, [json.dumps(job).encode()], self.limit_s, what, wire.TEXT)
        place, self._made = self._made, self._made + 1

        def call(method: str, arrays: tuple[npt.NDArray[Any], ...], limit_s: float) -> Any:
            kind = wire.RUN if method == "run" else wire.RUN_ONE
            found = wire.unpack(self._ask(kind, place, wire.pack(arrays), limit_s, what, wire.ARRAYS).body)
            return found[0] if len(found) == 1 else None

        try:
            return Guard(self, call, what, json.loads(bytes(answer.body)))
        except (ValueError, KeyError, TypeError):
            raise Fault("wire", what, found="no description of its engine") from None

    def rss_bytes(self) -> int | None:
        """Resident bytes of the worker; None once it is gone, or where /proc does not tell."""
        try:
            with open(f"/proc/{self.pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return None

    def close(self) -> None:
        """Kill the worker, after the call that runs now or its limit."""
        with self._turn:
            self._end(0.0)

    def _ask(self, kind: int, place: int, body: list[Any], limit_s: float, what: str, expected: int) -> wire.Frame:
        with self._turn:
            if self._ended:
                raise Fault("closed", what)
            self._number += 1
            number, until = self._number, time.monotonic() + limit_s
            try:
                self._pipe.send(kind, place, number, body, until)
                answer = self._pipe.receive(until)
                while answer.number < number:  # the answer to another request is never this one's
                    self.late += 1
                    answer = self._pipe.receive(until)
                if answer.number > number or answer.kind not in (expected, wire.ERROR):
                    raise Fault("wire", what, found=f"a frame of kind {answer.kind} for request {answer.number}")
            except Fault as fault:
                code = self._end(_LINGER_S if fault.kind == "died" else 0.0)
                found = fault.found
                if fault.kind == "died":
                    found = f"signal {-code}" if code < 0 else f"exit code {code}"
                elif fault.kind == "hang":
                    found = f"no answer in {1e3 * limit_s:.0f} ms"
                raise Fault(fault.kind, what, found=found) from None
        if answer.kind == wire.ERROR:
            raise Fault("throw", what, found=bytes(answer.body[:400]).decode("utf-8", "replace"))
        return answer

    def _end(self, linger_s: float) -> int:
        """Kill, reap, and say how it ended. ``linger_s``: how long one that is dying may take to do so by itself."""
        self._ended = True
        try:
            code = self._process.wait(linger_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        return code
