"""Embedding tables in INT8: a quarter of the bytes, and only the rows that a text needs are ever made float.

Symmetric, one float32 scale a row (as in the embedding quantization of Guan et al. 2019, row-wise), gathered first and
scaled after. A DequantizeLinear before the Gather would turn the whole table into floats at every inference.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgekit.distill.ranges import SMALL
from edgekit.export.graph import Graph


def quantize_rows(table: NDArray[np.float32], largest_code: int = 127) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """float32 (rows, width) -> INT8 of that shape, scales (rows, 1); nothing is off by more than half its scale."""
    scales = np.abs(table).max(axis=1, keepdims=True) / np.float32(largest_code)
    scales = np.where(scales >= np.finfo(np.float32).tiny, scales, 1).astype(np.float32)
    return np.clip(np.rint(table / scales), -largest_code, largest_code).astype(np.int8), scales


def int8_embeddings(model: onnx.ModelProto) -> list[str]:
    """Rewrite, in place, every Gather or Slice of rows from a constant float table; returns the tables' names."""
    graph = Graph(model)
    nodes: list[onnx.NodeProto] = []
    done: list[str] = []
    for node in graph.proto.node:
        table = graph.constant(node.input[0]) if node.op_type in ("Gather", "Slice") else None
        if table is None or table.dtype != np.float32 or table.ndim != 2 or not takes_rows(graph, node):
            nodes.append(node)
            continue
        if table.size < SMALL:
            nodes.append(node)
            continue
        name, out = node.input[0], node.output[0]
        codes, scales = quantize_rows(table.astype(np.float32))
        small, scale = graph.add_constant(f"{name}.int8", codes), graph.add_constant(f"{name}.scale", scales)
        for source, target in ((small, f"{out}.int8"), (scale, f"{out}.scale")):
            taken = onnx.NodeProto.FromString(node.SerializeToString())
            taken.input[0], taken.output[0], taken.name = source, target, f"{node.name}/{target.rsplit('.', 1)[1]}"
            nodes.append(taken)
        nodes.append(
            helper.make_node("Cast", [f"{out}.int8"], [f"{out}.float"], f"{node.name}/Cast", to=TensorProto.FLOAT)
        )
        nodes.append(helper.make_node("Mul", [f"{out}.float", f"{out}.scale"], [out], f"{node.name}/Mul"))
        done.append(name)
    graph.set_nodes(nodes)
    graph.prune()
    return done


def takes_rows(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether ``node`` picks whole rows: a Gather along axis 0, or a Slice of axis 0 alone."""
    if node.op_type == "Gather":
        return all(a.i == 0 for a in node.attribute if a.name == "axis")
    axes = graph.constant(node.input[3]) if len(node.input) > 3 else None
    return axes is not None and axes.tolist() == [0]
