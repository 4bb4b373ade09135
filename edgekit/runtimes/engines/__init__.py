"""Engines by the name that manifests use. Each adapter imports its engine when it is made, not before."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgekit.errors import EngineError

_MODULES = {"onnxruntime": "onnxruntime"}  # engine -> the module that must be importable


class Engine(Protocol):
    """A loaded model file."""

    version: str
    output_width: int | None  # last axis of the output, where the file states it
    batching: bool  # False: the answer to a text depends on the texts beside it, so each must run alone

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """int64 (B, T) twice -> float32 (B, C), (B, D) or (B, T, C)."""


def known() -> list[str]:
    """Engines that this version has an adapter for."""
    return list(_MODULES)


def installed(engine: str) -> bool:
    """Whether ``engine`` has an adapter and its package is there."""
    return engine in _MODULES and find_spec(_MODULES[engine]) is not None


def create(engine: str, path: Path, threads: int, inputs: tuple[str, str], output: str) -> Engine:
    """Load ``path`` in ``engine``. Raises ``EngineError`` or ``MissingDependencyError``."""
    if engine == "onnxruntime":
        from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(path, threads, inputs, output)
    raise EngineError("engine", found=repr(engine), expected=", ".join(_MODULES))
