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

from edgekit.export.graph import Graph, weight_matmuls

Feed = dict[str, np.ndarray]
Quantizer = Callable[[onnx.ModelProto, list[Feed], int], onnx.ModelProto]

NNCF_FEEDS = 128  # its statistics are slow; on MiniLM 300 texts gave the same cosine (64: 0.0005 less)
SMOOTHING = (0.75, 0.5)  # SmoothQuant's alpha (Xiao et al. 2023, section 4), tried after NNCF's own 0.95


def dynamic(model: onnx.ModelProto, feeds: list[Feed], seed: int) -> onnx.ModelProto:
    """onnxruntime dynamic: INT8 weights a column, activations ranged at run time. Needs no calibration."""
    del feeds, seed
    with _scratch() as path:
        quantize_dynamic(
            _copy(model),
            path,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[node.name for node in weight_matmuls(Graph(model)).values()],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(str(path))


def static(model: onnx.ModelProto, feeds: list[Feed], seed: int) -> onnx.ModelProto:
    """onnxruntime static QDQ: INT8 weights a column, UINT8 activations between the texts' mean minimum and maximum.

    On MiniLM the plain extremes gave a cosine of 0.9930, their mean 0.9937, the 99.99th percentile 0.9914, entropy
    0.9930; the last two also need inputs of one length.
    """
    del seed
    with _scratch() as path:
        quantize_static(
            _copy(model),
            path,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[node.name for node in weight_matmuls(Graph(model)).values()],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "CalibMovingAverage": True,
            },
        )
        return _products_only(onnx.load(str(path)))


def nncf(model: onnx.ModelProto, feeds: list[Feed], seed: int, alpha: float | None = None) -> onnx.ModelProto:
    """NNCF post-training, transformer type (SmoothQuant and bias correction), on weight products alone.

    All else is ignored: a quantized embedding table would be made float as a whole at every inference, and products of
    two activations gain nothing at the lengths that boards see. ``alpha``: SmoothQuant's strength, None is NNCF's own.
    """
    os.environ.setdefault("NNCF_CI", "1")  # the only switch that keeps NNCF's telemetry off
    import nncf as library
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

    np.random.seed(seed)
    wanted = {node.name for node in weight_matmuls(Graph(model)).values()}
    ignored = library.IgnoredScope(
        types=sorted({node.op_type for node in model.graph.node} - {"MatMul"}),
        names=sorted(n.name for n in model.graph.node if n.op_type == "MatMul" and n.name not in wanted),
        validate=False,
    )
    advanced = AdvancedQuantizationParameters()
    if alpha is not None:
        advanced.smooth_quant_alphas = AdvancedSmoothQuantParameters(matmul=alpha)
    library.set_log_level(logging.ERROR)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere), _quiet():
        found = library.quantize(
            _copy(model),
            library.Dataset(feeds[:NNCF_FEEDS]),
            model_type=library.ModelType.TRANSFORMER,
            subset_size=len(feeds[:NNCF_FEEDS]),
            ignored_scope=ignored,
            advanced_parameters=advanced,
        )
    assert isinstance(found, onnx.ModelProto)
    del found.metadata_props[:]
    return found


def variants(name: str) -> Iterator[tuple[str, Quantizer]]:
    """The ways to try candidate ``name``, the usual one first; the next is for when one misses the bound."""
    if name == "dynamic":
        yield name, dynamic
    elif name == "static":
        yield name, static
    elif name == "nncf":
        yield name, nncf
        for alpha in SMOOTHING:
            yield f"nncf-smooth-{alpha:g}", partial(nncf, alpha=alpha)


def restore(quantized: onnx.ModelProto, fp32: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """A copy of ``quantized`` in which the weight products of modules ``names`` are those of ``fp32`` again.

    Both graphs call values by the same names, so each product is put back where its result is made, with its bias.
    """
    graph, source = Graph(_copy(quantized)), Graph(fp32)
    back: dict[str, onnx.NodeProto] = {}
    for name, node in weight_matmuls(source).items():
        if name not in names:
            continue
        back[node.output[0]] = node
        for reader in source.readers[node.output[0]]:
            if reader.op_type == "Add" and any(value in source.tensors for value in reader.input):
                back[reader.output[0]] = reader  # a quantizer may have corrected the bias for its own errors
    nodes = [next((back[out] for out in node.output if out in back), node) for node in graph.proto.node]
    for node in back.values():
        for value in node.input:
            constant = source.constant(value)
            if constant is not None:
                graph.add_constant(value, constant)
    graph.set_nodes(nodes)
    graph.prune()
    return graph.model


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
    with tempfile.TemporaryDirectory() as folder, _quiet():
        yield Path(folder) / "model.onnx"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime's quantizer and NNCF talk through the root logger, one line a tensor."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())
