"""Activations of 16 bits through INT8 products: a high and a low half, each multiplied with the same INT8 weights.

CPUs have fast products of 8 bits alone. x is quantized to UINT8, what that leaves of it to UINT8 once more with a step
127 times finer, and both products are added: x W = high W + low W. Standard operators alone.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgekit.export.graph import Graph, copy

HEADROOM = 2.0  # calibrated ranges are widened by this: one bit of 16, and texts beyond calibration are not clipped


def halves(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model``, quantized with Q and DQ before each product, whose products take both halves."""
    graph = Graph(copy(model))
    zero = graph.add_constant("low.zero", np.array(128, np.uint8))
    widened: set[str] = set()
    made: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.proto.node:
        high = graph.maker.get(node.input[0]) if node.op_type == "MatMul" else None
        quantize = graph.maker.get(high.input[0]) if high is not None else None
        if high is None or quantize is None or high.op_type != "DequantizeLinear":
            continue
        name, out, scale = node.name, node.output[0], graph.constant(high.input[1])
        assert scale is not None
        low = [f"{high.input[1]}.low", zero]
        if high.input[1] not in widened:
            widened.add(high.input[1])
            step = float(scale.item()) * HEADROOM
            graph.add_constant(high.input[1], np.array(step, np.float32))
            graph.add_constant(low[0], np.array(step / 127, np.float32))
        node.output[0] = f"{name}.high"
        made[id(node)] = [
            node,
            helper.make_node("Sub", [quantize.input[0], high.output[0]], [f"{name}.rest"], f"{name}/Rest"),
            helper.make_node("QuantizeLinear", [f"{name}.rest", *low], [f"{name}.codes"], f"{name}/Quantize"),
            helper.make_node("DequantizeLinear", [f"{name}.codes", *low], [f"{name}.rounded"], f"{name}/Dequantize"),
            helper.make_node("MatMul", [f"{name}.rounded", node.input[1]], [f"{name}.low"], f"{name}/Low"),
            helper.make_node("Add", [f"{name}.high", f"{name}.low"], [out], f"{name}/Sum"),
        ]
    graph.set_nodes([part for node in graph.proto.node for part in made.get(id(node), [node])])
    graph.prune()
    return graph.model
