"""Smaller weights with float arithmetic: float16, or INT8 with a scale a column.

Both are written as constants with a Cast (and a Mul) behind them, which onnxruntime folds into float32 when it loads:
a half or a quarter of the bytes on disk, and the speed and memory of the fp32 file. Of embedding tables only the rows
that a text needs are made float.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgekit.export.graph import Graph, copy, weight_matmuls
from edgekit.quantize.embeddings import quantize_rows, takes_rows

HALF_MAX = float(np.finfo(np.float16).max)


def fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` with float16 weights and tables; what float16 cannot hold stays float32."""
    graph = Graph(copy(model))
    matrices = {node.input[1] for node in graph.proto.node if node.op_type in ("MatMul", "Conv")} & set(graph.tensors)
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()  # a matrix may serve several layers
    for node in graph.proto.node:
        table = node.input[0] if node.op_type in ("Gather", "Slice") and takes_rows(graph, node) else ""
        name = table or next((n for n in node.input[1:2] if n in matrices), "")
        value = graph.constant(name)
        if (
            value is None
            or value.dtype != np.float32
            or (table and value.ndim != 2)
            or np.abs(value).max(initial=0) > HALF_MAX
        ):
            nodes.append(node)
            continue
        half = graph.add_constant(f"{name}.fp16", value.astype(np.float16))
        taken = onnx.NodeProto.FromString(node.SerializeToString())
        if table:
            taken.input[0], taken.output[0] = half, f"{node.output[0]}.fp16"
            nodes += [taken, _cast(f"{node.output[0]}.fp16", node.output[0], node.name)]
        else:
            taken.input[1] = f"{name}.fp32"
            nodes += [taken] if name in done else [_cast(half, f"{name}.fp32", node.name), taken]
            done.add(name)
    graph.set_nodes(nodes)
    graph.prune()
    return graph.model


def int8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` with INT8 weight matrices, symmetric, a float32 scale a column; activations stay float."""
    graph = Graph(copy(model))
    before: dict[str, list[onnx.NodeProto]] = {}
    products = weight_matmuls(graph)
    for name in dict.fromkeys(node.input[1] for node in products.values()):  # one may serve several layers
        weight: NDArray[np.generic] | None = graph.constant(name)
        assert weight is not None
        codes, scales = quantize_rows(weight.T.astype(np.float32))
        small, scale = graph.add_constant(f"{name}.int8", codes.T), graph.add_constant(f"{name}.scale", scales.T)
        readers = [node for node in products.values() if node.input[1] == name]
        first = readers[0].name
        before[first] = [
            _cast(small, f"{name}.float", first),
            helper.make_node("Mul", [f"{name}.float", scale], [f"{name}.scaled"], f"{first}/Scale"),
        ]
        for node in readers:
            node.input[1] = f"{name}.scaled"
    graph.set_nodes([part for node in graph.proto.node for part in (*before.get(node.name, []), node)])
    graph.prune()
    return graph.model


def _cast(source: str, target: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], f"{name}/Cast", to=TensorProto.FLOAT)
