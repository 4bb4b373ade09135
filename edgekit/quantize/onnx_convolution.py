"""The backend for convolution networks in onnxruntime: static INT8 alone, since INT8 ranged at run time is slower than

float there (a MobileCLIP image tower: 363 ms against 43).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx

from edgekit.export.graph import Graph, save
from edgekit.quantize import convolution, observe, qat
from edgekit.quantize.backend import Source
from edgekit.quantize.convolution import Bias, Ranges
from edgekit.quantize.weights import fp16
from edgekit.runtimes.isa import saturates

CALIBRATED = 64  # feeds


@dataclass(frozen=True)
class Plan:
    """A candidate and the modules that it leaves in float. The graph is made of it when it is written."""

    reduced: bool  # weights of 7 bits
    bias: Bias
    half: bool = False  # float16 weights, and nothing else
    trained: bool = False  # in the ranges that the model was trained for
    kept: frozenset[str] = frozenset()


class OnnxConvolutionBackend:
    """Works on :class:`Plan`."""

    engine = "onnxruntime"

    def __init__(self, source: Source) -> None:
        self.source = source
        self.base = onnx.load(str(source.fp32 / "model.onnx"))
        self.names = list(convolution.modules(Graph(self.base)))

    def variants(self, name: str) -> Iterator[tuple[str, Callable[[], Plan]]]:
        """Of ``static``, ``qat`` and ``fp16``; none of any other."""
        if name == "fp16":
            yield name, lambda: Plan(False, {}, half=True)
        elif name == qat.NAME:
            yield name, lambda: Plan(False, {}, trained=True)
        elif name == "static":
            asked = self.source.reduce_range
            both = asked == "auto" and saturates()
            for reduced in (True, False) if both else (asked is True,):
                end = "-reduce-range" if reduced else ""
                yield f"static{end}", partial(self._corrected, reduced)
                yield f"static-own-biases{end}", partial(Plan, reduced, {})

    def matrices(self) -> dict[str, int]:
        graph = Graph(self.base)
        return {n: int(np.prod(graph.tensors[m.input[1]].dims)) for n, m in convolution.modules(graph).items()}

    def keep_float(self, model: Plan, names: set[str]) -> Plan:
        return replace(model, kept=model.kept | names)

    def write(self, model: Plan, folder: Path) -> int:
        return save(self.graph(model), folder / "model.onnx")

    def graph(self, model: Plan) -> onnx.ModelProto:
        """The ONNX model of ``model``."""
        if model.half:
            return fp16(self.base)
        names = [name for name in self.names if name not in model.kept]
        ranges = qat.spans(self.base, self.source.trained) if model.trained else self._ranges
        return convolution.quantized(self.base, ranges, names, model.reduced, model.bias)

    @cached_property
    def _ranges(self) -> Ranges:
        return observe.observed(self.base, self.source.feeds[:CALIBRATED])

    def _corrected(self, reduced: bool) -> Plan:
        return Plan(reduced, observe.corrected(self.base, self._ranges, self.names, self.source.feeds, reduced))
