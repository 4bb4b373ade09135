"""The backend for convolution networks in OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from edgekit.export.ir import Model
from edgekit.quantize import ir_graph, openvino_nncf
from edgekit.quantize.openvino import OpenVinoBackend
from edgekit.runtimes.isa import saturates


class OpenVinoConvolutionBackend(OpenVinoBackend):
    """As its base, but what is quantized are convolutions and products, and the way is NNCF's for such networks."""

    def variants(self, name: str) -> Iterator[tuple[str, Callable[[], Model]]]:
        """Of ``fp16`` and ``nncf``; none of any other."""
        if name == "fp16":
            yield name, self._fp16
        elif name == "nncf":
            asked = self.source.reduce_range
            for reduced in (True, False) if asked == "auto" and saturates() else (asked is True,):
                end = "-reduce-range" if reduced else ""
                make = partial(openvino_nncf.convolutional, self.base, self.source.feeds, self.source.seed, reduced)
                yield f"nncf{end}", make
                yield f"nncf-accurate-bias{end}", partial(make, fast=False)

    def keep_float(self, model: Model, names: set[str]) -> Model:
        restored = super().keep_float(model, names)
        ir_graph.drop_idle_rounding(restored)
        return restored

    def matrices(self) -> dict[str, int]:
        return ir_graph.all_sizes(self.base)
