"""The backend for OpenVINO: candidates on its own graph, written as IR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from edgekit.export.ir import Model, save
from edgekit.quantize import ir_graph, openvino_nncf, qat
from edgekit.quantize.backend import Source
from edgekit.runtimes.engines.openvino import import_openvino
from edgekit.runtimes.isa import saturates

GROUP = 128  # dynamic: values that share a range. On MiniLM cosine .9991 with 64, .9988 with 128, .9974 with 384
_GROUP_SIZE = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]  # OpenVINO takes it from the file


class OpenVinoBackend:
    """Works on :class:`openvino.Model`. The base graph is float but for its embedding tables."""

    engine = "openvino"

    def __init__(self, source: Source) -> None:
        self.source = source
        self.base = self._fp32()
        if source.embeddings_int8:
            ir_graph.int8_tables(self.base)

    def variants(self, name: str) -> Iterator[tuple[str, Callable[[], Model]]]:
        """Of ``fp16``, ``weight-only``, ``qat``, ``nncf`` and ``dynamic``."""
        if name == "fp16":
            yield name, self._fp16
        elif name == "weight-only":
            yield name, partial(self._weights_only, 0)
        elif name == "dynamic":
            yield name, partial(self._weights_only, GROUP)
        elif name == qat.NAME:
            yield name, lambda: ir_graph.with_ranges(self.base, self.source.trained)
        elif name == "nncf":
            both = self.source.reduce_range == "auto" and saturates()
            for reduced in (True, False) if both else (self.source.reduce_range is True,):
                yield from self._nncf(reduced)

    def _nncf(self, reduced: bool) -> Iterator[tuple[str, Callable[[], Model]]]:
        end = "-reduce-range" if reduced else ""
        static = partial(openvino_nncf.static, self.base, self.source.feeds, self.source.seed, reduced)
        yield f"nncf{end}", static
        for alpha in openvino_nncf.SMOOTHING:
            yield f"nncf-smooth-{alpha:g}{end}", partial(static, alpha=alpha)
        controlled = openvino_nncf.accuracy_controlled
        yield (
            f"nncf-accuracy-control{end}",
            partial(controlled, self.base, self.source.feeds, self.source.seed, reduced),
        )

    def matrices(self) -> dict[str, int]:
        return ir_graph.sizes(self.base)

    def keep_float(self, model: Model, names: set[str]) -> Model:
        return ir_graph.restore(model, self.base, names)

    def write(self, model: Model, folder: Path) -> int:
        return save(model, folder)

    def _weights_only(self, group: int) -> Model:
        """INT8 weights; at run time inputs are rounded too, ``group`` values by one range, or (0) they are not."""
        model = openvino_nncf.weights_only(self.base)
        # 0 must be said as well: in float32 OpenVINO would round them by 32
        model.set_rt_info(str(group), _GROUP_SIZE)
        return model

    def _fp16(self) -> Model:
        """Weights as float16; OpenVINO computes in the 16 bits that the processor has, or in float32."""
        import_openvino()
        from openvino._offline_transformations import compress_model_transformation

        model = self._fp32()
        compress_model_transformation(model)
        return model

    def _fp32(self) -> Model:
        return import_openvino().Core().read_model(str(self.source.fp32 / "model.xml"))
