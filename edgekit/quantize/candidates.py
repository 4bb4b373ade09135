"""The quantizers that are tried: each takes the fp32 graph and gives it back with all weight products in INT8."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from edgekit.export.graph import Graph, copy, weight_matmuls
from edgekit.quantize.backend import Feed
from edgekit.quantize.halves import halves
from edgekit.quantize.rows import narrowing, row_wise
from edgekit.runtimes.engines.openvino import silence
from edgekit.runtimes.isa import saturates

Quantizer = Callable[..., onnx.ModelProto]  # (fp32 graph, calibration inputs, seed, reduced=False)

NNCF_FEEDS = 128  # its statistics are slow; on MiniLM 300 texts gave the same cosine (64: 0.0005 less)
SMOOTHING = (0.75, 0.5)  # SmoothQuant's alpha (Xiao et al. 2023, section 4), tried after NNCF's own 0.95


def dynamic(model: onnx.ModelProto, feeds: list[Feed], seed: int, reduced: bool = False) -> onnx.ModelProto:
    """onnxruntime dynamic: INT8 weights a column, activations ranged at run time. Needs no calibration.

    ``reduced``: weights of 7 bits, here as below.
    """
    del feeds, seed
    with _scratch() as path:
        quantize_dynamic(
            copy(model),
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[node.name for node in weight_matmuls(Graph(model)).values()],
            per_channel=True,
            reduce_range=reduced,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(str(path))


def static(
    model: onnx.ModelProto, feeds: list[Feed], seed: int, reduced: bool = False, mean: bool = True
) -> onnx.ModelProto:
    """onnxruntime static QDQ: INT8 weights a column, UINT8 activations between the texts' mean minimum and maximum.

    ``mean`` False: between the plain extremes. On MiniLM those gave a cosine of 0.9930, their mean 0.9937, the 99.99th
    percentile 0.9914, entropy 0.9930; the last two also need inputs of one length.
    """
    del seed
    with _scratch() as path:
        quantize_static(
            copy(model),
            path,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[node.name for node in weight_matmuls(Graph(model)).values()],
            per_channel=True,
            reduce_range=reduced,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "CalibMovingAverage": mean,
            },
        )
        return _products_only(onnx.load(str(path)))


def nncf(
    model: onnx.ModelProto, feeds: list[Feed], seed: int, reduced: bool = False, alpha: float | None = None
) -> onnx.ModelProto:
    """NNCF post-training, transformer type (SmoothQuant and bias correction), on weight products alone.

    All else is ignored: a quantized embedding table would be made float as a whole at every inference, and products of
    two activations gain nothing at the lengths that boards see. ``alpha``: SmoothQuant's strength, None is NNCF's own.
    """
    silence()  # NNCF imports OpenVINO, which would call home
    os.environ.setdefault("NNCF_CI", "1")  # the only switch that keeps NNCF's own telemetry off
    import nncf as library
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
        OverflowFix,
    )

    np.random.seed(seed)
    wanted = {node.name for node in weight_matmuls(Graph(model)).values()}
    ignored = library.IgnoredScope(
        types=sorted({node.op_type for node in model.graph.node} - {"MatMul"}),
        names=sorted(n.name for n in model.graph.node if n.op_type == "MatMul" and n.name not in wanted),
        validate=False,
    )
    advanced = AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE if reduced else OverflowFix.DISABLE)
    if alpha is not None:
        advanced.smooth_quant_alphas = AdvancedSmoothQuantParameters(matmul=alpha)
    library.set_log_level(logging.ERROR)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere), quiet():
        found = library.quantize(
            copy(model),
            library.Dataset(feeds[:NNCF_FEEDS]),
            model_type=library.ModelType.TRANSFORMER,
            subset_size=len(feeds[:NNCF_FEEDS]),
            ignored_scope=ignored,
            advanced_parameters=advanced,
        )
    assert isinstance(found, onnx.ModelProto)
    del found.metadata_props[:]
    return found


def static_a16(model: onnx.ModelProto, feeds: list[Feed], seed: int, reduced: bool = False) -> onnx.ModelProto:
    """:func:`static` with activations of 16 bits, as two halves of 8."""
    return halves(static(model, feeds, seed, reduced, mean=False))


def with_rows(quantizer: Quantizer) -> Quantizer:
    """``quantizer``, but the products that narrow (the FFN's second) range their inputs row by row at run time."""

    def quantize(model: onnx.ModelProto, feeds: list[Feed], seed: int, reduced: bool = False) -> onnx.ModelProto:
        return row_wise(quantizer(model, feeds, seed, reduced), model, narrowing(model), reduced)

    return quantize


def dynamic_rows(model: onnx.ModelProto, feeds: list[Feed], seed: int, reduced: bool = False) -> onnx.ModelProto:
    """Every product's inputs ranged row by row at run time: no calibration, and no text rounded by another's range."""
    del feeds, seed
    return row_wise(model, model, set(weight_matmuls(Graph(model))), reduced)


def variants(name: str, reduce_range: bool | str = "auto") -> Iterator[tuple[str, Quantizer]]:
    """The ways to try candidate ``name``, the usual one first; the next is for when one misses the bound.

    ``reduce_range``: weights of 7 bits for all (True) or none (False); "auto": for all, first, where this machine's
    INT8 sums saturate. Elsewhere they can only lose.
    """
    both = reduce_range == "auto" and saturates()
    for reduced in (True, False) if both else (reduce_range is True,):
        for label, quantizer in _by_name(name):
            if reduced:
                yield f"{label}-reduce-range", partial(quantizer, reduced=True)
            else:
                yield label, quantizer


def _by_name(name: str) -> Iterator[tuple[str, Quantizer]]:
    if name == "dynamic":
        yield name, dynamic
        yield "dynamic-rows", dynamic_rows
    elif name == "static":
        yield name, static
        yield "static-rows", with_rows(static)
    elif name == "static-a16":
        yield name, static_a16
    elif name == "nncf":
        yield name, nncf
        for alpha in SMOOTHING:
            yield f"nncf-smooth-{alpha:g}", partial(nncf, alpha=alpha)
        yield f"nncf-smooth-{SMOOTHING[0]:g}-rows", with_rows(partial(nncf, alpha=SMOOTHING[0]))


def _products_only(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let all but MatMul read the float value before Q and DQ: a residual sum must not pay for a product's range."""
    graph = Graph(model)
    plain = {
        node.output[0]: graph.maker[node.input[0]].input[0]
        for node in graph.proto.node
        if node.op_type == "DequantizeLinear" and node.input[0] in graph.maker
    }
    for node in graph.proto.node:
        if node.op_type != "MatMul":
            for i, name in enumerate(node.input):
                node.input[i] = plain.get(name, name)
    graph.refresh()
    graph.prune()
    return model


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: list[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, quiet():
        yield Path(folder) / "model.onnx"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the quantizers: onnxruntime's and NNCF's write one line a tensor."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
