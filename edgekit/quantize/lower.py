"""The form in which onnxruntime's CPU kernels run a graph fastest; the numbers stay the same.

Its own fusions at load would find most of this, but leave the bias outside of INT8 products, push transposes where they
cost more, and fuse SkipLayerNormalization, whose CPU kernel was measured slower than Add and LayerNormalization.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgekit.export.graph import Graph

DOMAIN = "com.microsoft"


def lower(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite ``model`` in place for onnxruntime and return it."""
    graph = Graph(model)
    _int8_products(graph)
    graph.prune()
    _attention_scores(graph)
    graph.prune()
    for value in (*graph.proto.input, *graph.proto.output):
        # without these names no shape is known to be equal to another, which SkipLayerNormalization's fusion needs
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return model


def _int8_products(graph: Graph) -> None:
    """MatMul(DQ(Q(x)), DQ(w)) + bias -> MatMulIntegerToFloat(Q(x), w, scales, zero points, bias)."""
    fused: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.proto.node:
        left, right = (graph.maker.get(name) for name in node.input[:2]) if node.op_type == "MatMul" else (None, None)
        if left is None or right is None or {left.op_type, right.op_type} != {"DequantizeLinear"}:
            continue
        weight = graph.constant(right.input[0])
        if weight is None or weight.dtype != np.int8 or left.input[0] not in graph.maker:
            continue
        zero = graph.constant(right.input[2]) if len(right.input) > 2 else None
        weight_zero = right.input[2] if zero is not None and np.any(zero) else ""
        quantize = graph.maker[left.input[0]]
        activation_zero = _unsigned(graph, quantize)
        if activation_zero is None:
            continue
        readers = graph.readers[node.output[0]]
        add = readers[0] if len(readers) == 1 and readers[0].op_type == "Add" else None
        bias = next((name for name in add.input if name in graph.tensors), "") if add is not None else ""
        last = add if add is not None and bias else node
        fused[id(last)] = [
            helper.make_node(
                "MatMulIntegerToFloat",
                [left.input[0], right.input[0], left.input[1], right.input[1], activation_zero, weight_zero, bias],
                [last.output[0]],
                f"{node.name}IntegerToFloat",
                domain=DOMAIN,
            )
        ]
    nodes: list[onnx.NodeProto] = []
    for node in graph.proto.node:
        nodes += fused.get(id(node), [node])
    graph.set_nodes(nodes)


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


def _attention_scores(graph: Graph) -> None:
    """MatMul(q, Transpose(k)) * scale -> FusedMatMul(q, k), which reads k as it lies."""
    fused: dict[int, onnx.NodeProto] = {}
    for node in graph.proto.node:
        transpose = graph.maker.get(node.input[1]) if node.op_type == "MatMul" else None
        if transpose is None or transpose.op_type != "Transpose":
            continue
        axes = list(next((a.ints for a in transpose.attribute if a.name == "perm"), []))
        if len(axes) < 2 or axes != [*range(len(axes) - 2), len(axes) - 1, len(axes) - 2]:
            continue
        readers = graph.readers[node.output[0]]
        scale = readers[0] if len(readers) == 1 and readers[0].op_type == "Mul" else None
        factor = (
            next((v for v in map(graph.constant, scale.input) if v is not None), None) if scale is not None else None
        )
        last, alpha = (scale, float(factor.reshape(-1)[0])) if factor is not None and factor.size == 1 else (node, 1.0)
        assert last is not None
        fused[id(last)] = helper.make_node(
            "FusedMatMul",
            [node.input[0], transpose.input[0]],
            [last.output[0]],
            f"{node.name}Transposed",
            domain=DOMAIN,
            transB=1,
            alpha=alpha,
        )
    graph.set_nodes([fused.get(id(node), node) for node in graph.proto.node])
