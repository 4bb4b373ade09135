"""onnxruntime's own profiler: a trace of every operator, as JSON."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.devices.operators import Timed
from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine

_CALL, _NODE = "model_run", "_kernel_time"


class Profiled(OnnxRuntimeEngine):
    """The engine as it serves, with its profiler on. One call of :meth:`timed` ends it."""

    def options(self, ort: Any, threads: int) -> Any:
        """Those of the engine, and a folder for the trace."""
        self._folder = tempfile.TemporaryDirectory()
        options = super().options(ort, threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(self._folder.name) / "trace")
        self._calls = self._skipped = 0
        return options

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """As the engine's."""
        self._calls += 1
        return super().run(ids, mask)

    def run_one(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """As the engine's."""
        self._calls += 1
        return super().run_one(values)

    def reset(self) -> None:
        """What ran until now does not count."""
        self._skipped = self._calls

    def timed(self, runs: int) -> list[Timed]:
        """Each operator a run, of the ``runs`` since :meth:`reset`."""
        with self._folder:
            trace = json.loads(Path(self.session.end_profiling()).read_text("utf-8"))
        return from_trace(trace, self._skipped, runs)


def from_trace(trace: list[dict[str, Any]], skipped: int, runs: int) -> list[Timed]:
    """Operators of a trace, without those of the first ``skipped`` calls; times a run, of ``runs`` after them."""
    calls = sorted(event["ts"] for event in trace if event.get("name") == _CALL)
    if len(calls) <= skipped:
        return []
    return [
        Timed(event["args"]["op_name"], event["args"]["provider"], 1 / runs, event["dur"] / 1000 / runs)
        for event in trace
        if event.get("cat") == "Node" and event["name"].endswith(_NODE) and event["ts"] >= calls[skipped]
    ]
