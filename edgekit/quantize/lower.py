"""The form in which onnxruntime's CPU kernels run a graph fastest; the numbers stay the same.

Its own fusions at load would find some of this, but leave the bias outside of INT8 products, push transposes where they
cost more, and fuse SkipLayerNormalization, whose CPU kernel was measured slower than Add and LayerNormalization.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgekit.export.graph import Graph
from edgekit.quantize.attention import DOMAIN, attention_scores, quantized_attention


def lower(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite ``model`` in place for onnxruntime and return it."""
    graph = Graph(model)
    for rewrite in (_static_products, _dynamic_products, quantized_attention, attention_scores):
        rewrite(graph)
        graph.prune()
    for value in (*graph.proto.input, *graph.proto.output):
        # without these names no shape is known to be equal to another, which SkipLayerNormalization's fusion needs
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model


def _static_products(graph: Graph) -> None:
    """MatMul(DQ(Q(x)), DQ(w)) + bias -> MatMulIntegerToFloat(Q(x), w, scales, zero points, bias)."""
    fused: dict[int, onnx.NodeProto] = {}
    for node in graph.proto.node:
        left, right = (graph.maker.get(name) for name in node.input[:2]) if node.op_type == "MatMul" else (None, None)
        if left is None or right is None or {left.op_type, right.op_type} != {"DequantizeLinear"}:
            continue
        weight = graph.constant(right.input[0])
        if weight is None or weight.dtype != np.int8 or left.input[0] not in graph.maker:
            continue
        zero = _unsigned(graph, graph.maker[left.input[0]])
        if zero is None:
            continue
        codes = [left.input[0], right.input[0], left.input[1], right.input[1], zero, _zero_of(graph, right, 2)]
        last, product = _product(graph, node, node, codes)
        fused[id(last)] = product
    graph.set_nodes([fused.get(id(node), node) for node in graph.proto.node])


def _dynamic_products(graph: Graph) -> None:
    """Cast(MatMulInteger(x, w)) * (scale * scales) + bias -> MatMulIntegerToFloat(x, w, scales, zero points, bias)."""
    fused: dict[int, onnx.NodeProto] = {}
    for node in graph.proto.node:
        if node.op_type != "MatMulInteger":
            continue
        cast = graph.readers[node.output[0]][0]
        scaled = graph.readers[cast.output[0]][0]
        scales = graph.maker.get(scaled.input[1]) if (cast.op_type, scaled.op_type) == ("Cast", "Mul") else None
        if scales is None or scales.op_type != "Mul":
            continue
        codes = [*node.input[:2], *scales.input, node.input[2], _zero_of(graph, node, 3)]
        last, product = _product(graph, node, scaled, codes)
        fused[id(last)] = product
    graph.set_nodes([fused.get(id(node), node) for node in graph.proto.node])


def _product(
    graph: Graph, node: onnx.NodeProto, end: onnx.NodeProto, codes: list[str]
) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """The last node that is replaced, ``end`` or the Add of a bias after it, and the product in its place."""
    readers = graph.readers[end.output[0]]
    add = readers[0] if len(readers) == 1 and readers[0].op_type == "Add" else None
    bias = next((name for name in add.input if name in graph.tensors), "") if add is not None else ""
    last = add if add is not None and bias else end
    name = f"{node.name}IntegerToFloat"
    return last, helper.make_node("MatMulIntegerToFloat", [*codes, bias], [last.output[0]], name, domain=DOMAIN)


def _zero_of(graph: Graph, node: onnx.NodeProto, index: int) -> str:
    """The name of the weight's zero point, empty where all are 0."""
    name = node.input[index] if len(node.input) > index else ""
    zero = graph.constant(name)
    return name if zero is not None and np.any(zero) else ""


def _unsigned(graph: Graph, quantize: onnx.NodeProto) -> str | None:
    """Let ``quantize`` give UINT8, the same codes 128 higher, and return its zero point's name; None if it cannot.

    x86 has no fast product of two signed matrices: it was measured 20 times slower.
    """
    if quantize.op_type != "QuantizeLinear" or len(quantize.input) < 3:
        return None
    zero = graph.constant(quantize.input[2])
    if zero is None or zero.dtype not in (np.int8, np.uint8):
        return None
    if zero.dtype == np.int8:
        others = [n for n in graph.readers[quantize.output[0]] if n.op_type != "DequantizeLinear"]
        if others:
            return None
        shifted = graph.add_constant(f"{quantize.input[2]}.unsigned", (zero.astype(np.int16) + 128).astype(np.uint8))
        quantize.input[2] = shifted
        for node in graph.readers[quantize.output[0]]:
            node.input[2] = shifted
    return str(quantize.input[2])
