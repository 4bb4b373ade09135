"""Faults of the soak, as an engine wrapper that works in this process and in a worker: ``Guarded(wrap_engine=...)``.

Orders come by a file, ``$EDGEKIT_SOAK_ORDER``: JSON with ``kind`` and ``until``, seconds of the monotonic clock, which
all processes share. "throw", "nan", "crash" are taken once, "hang" blocks one inference, "heat" slows all until then.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.runtimes.engines import Engine

ORDER = "EDGEKIT_SOAK_ORDER"
SLOWER = 2.0  # what heat adds, in times of the inference


def order(kind: str, until: float = 0.0) -> None:
    """Let the next inference, wherever it runs, meet ``kind``."""
    path = Path(os.environ[ORDER])
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"kind": kind, "until": until}))
    beside.replace(path)


class FaultyEngine:
    """``engine`` with the ordered faults."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._order = Path(os.environ[ORDER])
        self.version, self.inputs, self.output_width = engine.version, engine.inputs, engine.output_width
        self.batching, self.length_step = engine.batching, engine.length_step

    def run(self, ids: Any, mask: Any) -> Any:
        """As the engine's."""
        return self._with_fault(lambda: self._engine.run(ids, mask))

    def run_one(self, values: Any) -> Any:
        """As the engine's."""
        return self._with_fault(lambda: self._engine.run_one(values))

    def _with_fault(self, run: Any) -> Any:
        kind, until = self._take()
        if kind == "hang":
            time.sleep(max(0.0, until - time.monotonic()))
        elif kind == "throw":
            raise RuntimeError("ordered")
        elif kind == "crash":
            ctypes.string_at(0)
        began = time.monotonic()
        output = run()
        if kind == "heat":
            time.sleep(SLOWER * (time.monotonic() - began))
        elif kind == "nan":
            output = np.full_like(output, np.nan)
        return output

    def _take(self) -> tuple[str, float]:
        try:
            found = json.loads(self._order.read_text())
        except OSError:
            return "", 0.0
        if found["kind"] != "heat" or time.monotonic() >= found["until"]:
            self._order.unlink(missing_ok=True)
        if found["kind"] == "heat" and time.monotonic() >= found["until"]:
            return "", 0.0
        return found["kind"], found["until"]


def wrap(engine: Engine, name: str) -> Engine:
    """The hook."""
    del name
    return FaultyEngine(engine)
