"""Where an engine runs, this process or a worker, and the guard that is the same for both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgekit.runtimes.engines import Engine
from edgekit.runtimes.recovery.faults import check_output

# What every loaded engine passes through, with its name: for fault injection. For a worker "module:function".
Wrap = Callable[[Engine, str], Engine]


class Place(Protocol):
    """Runs the engines of one session, one call at a time. ``limit_s``: what a call of one row may take."""

    limit_s: float

    def create(
        self, engine: str, path: Path, threads: int, inputs: tuple[str, ...], output: str, precision: str
    ) -> Engine:
        """As :func:`edgekit.runtimes.engines.create`, guarded. Raises ``Fault``."""

    def rss_bytes(self) -> int | None:
        """Resident bytes that would be given back by :meth:`close`; None where that is nothing of its own."""

    def close(self) -> None:
        """End it; whoever calls an engine of it afterwards gets a ``Fault`` of kind "closed"."""


class Guard:
    """An ``Engine`` whose calls go to a place and whose outputs are looked at.

    ``call``: name of the method, its arrays, seconds that it may take -> what the engine gave.
    """

    def __init__(
        self,
        place: Place,
        call: Callable[[str, tuple[npt.NDArray[Any], ...], float], Any],
        name: str,
        about: dict[str, Any],
    ) -> None:
        self._place, self._call, self._name = place, call, name
        self.version: str = about["version"]
        self.inputs: tuple[str, ...] = tuple(about["inputs"])
        self.output_width: int | None = about["output_width"]
        self.batching: bool = about["batching"]
        self.length_step: int = about["length_step"]
        self._width = self.output_width  # learnt from the first answer, where the file does not state it

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """As the engine's own. Raises ``Fault``."""
        return self._checked("run", (ids, mask), ids, True)

    def run_one(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """As the engine's own. Raises ``Fault``."""
        return self._checked("run_one", (values,), values, values.ndim == 2)

    def _checked(
        self, method: str, arrays: tuple[npt.NDArray[Any], ...], given: npt.NDArray[Any], text: bool
    ) -> npt.NDArray[np.float32]:
        limit = self._place.limit_s * max(1, len(given))
        output = check_output(self._call(method, arrays, limit), given, self._width, text, f"output of {self._name}")
        self._width = output.shape[-1]
        return output


def about(engine: Engine) -> dict[str, Any]:
    """What :class:`Guard` tells of the engine behind it; plain JSON."""
    names = ("version", "inputs", "output_width", "batching", "length_step")
    found = {name: getattr(engine, name) for name in names}
    return {**found, "inputs": list(found["inputs"])}
