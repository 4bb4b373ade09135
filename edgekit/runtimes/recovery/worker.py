"""The process of ``isolate=True``: loads engines and answers arrays with arrays, until its parent is gone."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit.runtimes import engines
from edgekit.runtimes.engines import Engine
from edgekit.runtimes.recovery import wire
from edgekit.runtimes.recovery.faults import Fault, thrown
from edgekit.runtimes.recovery.place import about

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> int:
    """Frames on stdin and what was stdout; an engine that prints writes to stderr instead."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the whole group; the parent decides
    pipe = wire.Pipe(os.dup(0), os.dup(1))
    os.dup2(2, 1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    made: list[Engine] = []
    while True:
        try:
            frame = pipe.receive()
        except Fault:
            return 0  # the parent closed its end
        kind = wire.ERROR
        body: list[bytes | memoryview]
        try:
            if frame.kind == wire.CREATE:
                made.append(_create(json.loads(bytes(frame.body))))
                kind, body = wire.TEXT, [json.dumps(about(made[-1])).encode()]
            else:
                run = made[frame.place].run if frame.kind == wire.RUN else made[frame.place].run_one
                kind, body = wire.ARRAYS, wire.pack([run(*wire.unpack(frame.body))])
        except Exception as error:
            body = [str(thrown(error, "the worker").found).encode()]
        pipe.send(kind, frame.place, frame.number, body)


def _create(job: dict[str, Any]) -> Engine:
    made = engines.create(
        job["engine"], Path(job["path"]), job["threads"], tuple(job["inputs"]), job["output"], job["precision"]
    )
    if job["wrap"]:
        module, _, name = job["wrap"].partition(":")
        made = getattr(import_module(module), name)(made, job["engine"])
    if job["memory_bytes"]:
        _bound(job["memory_bytes"])
    return made


def _bound(memory_bytes: int) -> None:
    """Let private memory grow no further than to ``memory_bytes``: beyond, an allocation fails at once."""
    with contextlib.suppress(ImportError, OSError, ValueError, KeyError):
        import resource

        with open("/proc/self/status") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        data, resident = (1024 * int(lines[name].split()[0]) for name in ("VmData", "VmRSS"))
        limit = data + max(0, memory_bytes - resident)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def _end_with_parent() -> None:
    """Even while an engine hangs: the kernel sends SIGKILL when the thread that started this process ends (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
