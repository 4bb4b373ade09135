"""INT8 with the ranges that a model was trained for: what quantization-aware training leaves becomes Q and DQ nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from edgekit.distill import ranges as ranges_file
from edgekit.distill.ranges import Ranges
from edgekit.errors import ModelError
from edgekit.export.graph import Graph, weight_matmuls
from edgekit.quantize import convolution
from edgekit.quantize.embeddings import quantize_rows

NAME = "qat"
ENGINES = ("onnxruntime", "openvino")  # those whose INT8 files are static


def trained(torch_folder: Path, engine: str, precision: str, kind: str = "transformer") -> Ranges:
    """The ranges that the model in ``torch_folder`` was trained for, if it was, where a file can have them; else none.

    A model that was trained for INT8 is rounded as it was in training, and that alone. ``kind``: as in Source; towers
    of convolutions have them in onnxruntime alone.
    """
    static = precision == "w8a8" and engine in (ENGINES if kind == "transformer" else ("onnxruntime",))
    return ranges_file.read(torch_folder) if static and ranges_file.exist(torch_folder) else {}


def spans(model: onnx.ModelProto, ranges: Ranges) -> convolution.Ranges:
    """``ranges`` of a tower of convolutions as the least and largest of the values of its float ``model``.

    Raises ModelError when a value that is rounded has no range.
    """
    names = convolution.value_names(model)
    missing = sorted(set(names.values()) - set(ranges))
    if missing:
        raise ModelError(ranges_file.NAME, found=f"nothing on {', '.join(missing)}", expected="a range for every value")
    found = {value: ranges[name] for value, name in names.items()}
    return {value: (-zero * scale, (255 - zero) * scale) for value, (scale, zero) in found.items()}


def qdq(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """A copy of fp32 ``model`` with Q and DQ before every weight product: UINT8 inputs in ``ranges``, INT8 weights.

    Weights are symmetric with a scale a column (an output channel). Only standard operators, opset 13 or later.
    Raises ModelError when a product has no range.
    """
    graph = Graph(onnx.ModelProto.FromString(model.SerializeToString()))
    products = weight_matmuls(graph)
    missing = sorted(set(products) - set(ranges))
    if missing:
        raise ModelError(
            ranges_file.NAME, found=f"nothing on {', '.join(missing)}", expected="a range for every product"
        )
    before: dict[str, list[onnx.NodeProto]] = {}
    for name, node in products.items():
        left, right = node.input[:2]
        matrix = graph.constant(right)
        assert matrix is not None
        codes, scales = quantize_rows(matrix.T.astype(np.float32))
        scale, zero = ranges[name]
        activation = [
            graph.add_constant(f"{name}.input.scale", np.array(scale, np.float32)),
            graph.add_constant(f"{name}.input.zero", np.array(zero, np.uint8)),
        ]
        weight = [
            graph.add_constant(f"{name}.weight.int8", codes.T),
            graph.add_constant(f"{name}.weight.scale", scales.reshape(-1)),
            graph.add_constant(f"{name}.weight.zero", np.zeros(len(codes), np.int8)),
        ]
        codes_of, back, floats = f"{name}.input.codes", f"{name}.input.rounded", f"{name}.weight.rounded"
        before[node.name] = [
            helper.make_node("QuantizeLinear", [left, *activation], [codes_of], f"{node.name}/Quantize"),
            helper.make_node("DequantizeLinear", [codes_of, *activation], [back], f"{node.name}/Dequantize"),
            helper.make_node("DequantizeLinear", weight, [floats], f"{node.name}/Weight", axis=1),
        ]
        node.input[0], node.input[1] = back, floats
    graph.set_nodes([part for node in graph.proto.node for part in (*before.get(node.name, []), node)])
    graph.prune()
    return graph.model
