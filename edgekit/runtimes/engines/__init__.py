"""Engines by the name that manifests use. Each adapter imports its engine when it is made, not before."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edgekit.errors import EngineError
from edgekit.runtimes.engines.providers import ON_CPU, Place

ON_GPU = "onnxruntime"  # the engine that knows other devices than the CPU


class Engine(Protocol):
    """A loaded model file. One with two inputs answers to :meth:`run`, one with a single input to :meth:`run_one`."""

    version: str
    inputs: tuple[str, ...]  # names of its inputs, one or two
    output_width: int | None  # last axis of the output, where the file states it
    batching: bool  # False: the answer to a text depends on the texts beside it, so each must run alone
    length_step: int  # above 1: a length that is new costs much, so inputs are padded to multiples of this

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """int64 (B, T) twice -> float32 (B, C), (B, D) or (B, T, C)."""

    def run_one(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """float32 pixels (B, 3, S, S) or int64 ids (B, T) -> float32 (B, D)."""


# What loads a model file, with the arguments of :func:`create`: another place for the engine to run in, for instance.
Create = Callable[[str, Path, int, tuple[str, ...], str, str], Engine]


class _Entry(NamedTuple):
    package: str  # the module that must be importable
    adapter: str  # module and class under this package
    reads: tuple[str, ...]  # engines whose model files it runs, its own first


_ENGINES = {
    "onnxruntime": _Entry("onnxruntime", "onnxruntime:OnnxRuntimeEngine", ("onnxruntime",)),
    "openvino": _Entry("openvino", "openvino:OpenVinoEngine", ("openvino",)),
    "litert": _Entry("ai_edge_litert", "litert:LiteRtEngine", ("litert", "tflite-runtime")),
    "tflite-runtime": _Entry("tflite_runtime", "litert:TfliteRuntimeEngine", ("tflite-runtime", "litert")),
}


def known() -> list[str]:
    """Engines that this version has an adapter for."""
    return list(_ENGINES)


def installed(engine: str) -> bool:
    """Whether ``engine`` has an adapter and its package is there."""
    return engine in _ENGINES and find_spec(_ENGINES[engine].package) is not None


def stamp(engine: str) -> str:
    """A word that changes when the package of ``engine`` is replaced by another version; "" where it is missing."""
    spec = find_spec(_ENGINES[engine].package) if engine in _ENGINES else None
    if spec is None or spec.origin is None:
        return ""
    try:
        found = os.stat(spec.origin)
    except OSError:
        return spec.origin
    return f"{spec.origin} {found.st_size} {found.st_mtime_ns}"


def readers(made_for: str) -> list[str]:
    """Engines that can run a model file made for engine ``made_for``, that one first; [] for one that is unknown."""
    found = [name for name, entry in _ENGINES.items() if made_for in entry.reads]
    return sorted(found, key=lambda name: name != made_for)


def create(
    engine: str,
    path: Path,
    threads: int,
    inputs: tuple[str, ...],
    output: str,
    precision: str = "fp32",
    place: Place = ON_CPU,
) -> Engine:
    """Load ``path`` in ``engine``. ``precision`` is the file's, for engines that choose their arithmetic by it.

    ``inputs``: all the file's inputs, (ids, mask) or one alone; ``output``: the output's name, the first when empty.
    ``place``: the device; onnxruntime alone knows another than the CPU.

    Raises ``EngineError`` or ``MissingDependencyError``.
    """
    if engine not in _ENGINES:
        raise EngineError("engine", found=repr(engine), expected=", ".join(_ENGINES))
    if len(inputs) not in (1, 2):
        raise EngineError(f"inputs of {path.name}", found=list(inputs), expected="one, or token ids and mask")
    module, _, name = _ENGINES[engine].adapter.partition(":")
    adapter = getattr(import_module(f"{__name__}.{module}"), name)
    if place.device == "cpu":
        on_cpu: Engine = adapter(path, threads, inputs, output, precision)
        return on_cpu
    if engine != ON_GPU:
        raise EngineError(f"engine {engine} on device {place.device}", found=engine, expected=ON_GPU)
    placed: Engine = adapter(path, threads, inputs, output, precision, place)
    return placed
