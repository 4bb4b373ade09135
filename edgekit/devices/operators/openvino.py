"""OpenVINO's own profiler: performance counts of the last request."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgekit.devices.operators import Timed
from edgekit.runtimes.engines.openvino import OpenVinoEngine

CPU, REFERENCE = "CPU", "CPU reference kernels"  # the latter are plain loops: OpenVINO's own slow fallback


class Profiled(OpenVinoEngine):
    """The engine as it serves, with its performance counts on."""

    extra: ClassVar[dict[str, Any]] = {"PERF_COUNT": True}

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._found: list[Timed] = []

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """As the engine's."""
        answer = super().run(ids, mask)
        self._look()
        return answer

    def run_one(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """As the engine's."""
        answer = super().run_one(values)
        self._look()
        return answer

    def reset(self) -> None:
        """What ran until now does not count."""
        self._found = []

    def timed(self, runs: int) -> list[Timed]:
        """Each operator a run, of the ``runs`` since :meth:`reset`."""
        return [one._replace(calls=one.calls / runs, ms=one.ms / runs) for one in self._found]

    def _look(self) -> None:
        for one in self._request.get_profiling_info():
            if one.status.name == "EXECUTED":
                provider = REFERENCE if one.exec_type.startswith("ref") else CPU
                self._found.append(Timed(one.node_type, provider, 1, one.real_time.total_seconds() * 1000))
