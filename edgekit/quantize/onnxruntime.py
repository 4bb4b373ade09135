"""The backend for onnxruntime: candidates on the ONNX graph, lowered to what its CPU kernels run fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from edgekit.errors import StageError
from edgekit.export.graph import Graph, copy, save, weight_matmuls
from edgekit.quantize import neural_compressor, qat
from edgekit.quantize.backend import Source
from edgekit.quantize.candidates import Quantizer, quiet, static, static_a16, variants, with_rows
from edgekit.quantize.embeddings import int8_embeddings
from edgekit.quantize.lower import lower
from edgekit.quantize.restore import restore
from edgekit.quantize.weights import fp16, int8_weights


class OnnxBackend:
    """Works on :class:`onnx.ModelProto`. The base graph is float but for its embedding tables."""

    engine = "onnxruntime"

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rounded: onnx.ModelProto | None = None
        self.base = self._fp32()
        if source.embeddings_int8:
            int8_embeddings(self.base)  # first, since every later copy of the graph is then a fraction of its size

    def variants(self, name: str) -> Iterator[tuple[str, Callable[[], onnx.ModelProto]]]:
        if name == "fp16":
            yield name, lambda: fp16(self._fp32())
        elif name == "weight-only":
            yield name, lambda: int8_weights(self.base)
        elif name == qat.NAME:
            yield name, lambda: qat.qdq(self.base, self.source.trained)
        elif name.startswith(neural_compressor.NAME):
            neural_compressor.require()
            ways = {"": static, "-rows": with_rows(static)} if name == neural_compressor.NAME else {"": static_a16}
            for suffix, quantizer in ways.items():
                yield name + suffix, partial(self._rounded_first, quantizer)
        for label, quantizer in variants(name, self.source.reduce_range):
            yield label, partial(quantizer, self.base, self.source.feeds, self.source.seed)

    def matrices(self) -> dict[str, int]:
        graph = Graph(self.base)
        return {n: int(np.prod(graph.tensors[m.input[1]].dims)) for n, m in weight_matmuls(graph).items()}

    def keep_float(self, model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
        return restore(model, self.base, names)

    def write(self, model: onnx.ModelProto, folder: Path) -> int:
        return save(lower(copy(model)), folder / "model.onnx")

    def _rounded_first(self, quantizer: Quantizer) -> onnx.ModelProto:
        if self.source.reduce_range is True:
            raise StageError("neural-compressor", found="reduce_range", expected="weights of 8 bits")
        if self.rounded is None:
            with quiet():
                self.rounded = neural_compressor.rounded(self.base, self.source.torch, self.source.feeds)
        return quantizer(self.rounded, self.source.feeds, self.source.seed)

    def _fp32(self) -> onnx.ModelProto:
        return onnx.load(str(self.source.fp32 / "model.onnx"))
