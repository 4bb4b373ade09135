"""Weight products whose inputs are ranged row by row at run time, one row a token: nothing is rounded by a neighbour.

A row is divided by its largest absolute value, quantized with one fixed scale, and its results are multiplied by that
value: exact, since a product is linear in its row. Standard operators alone. The inputs of the FFN's second product
have outliers in single tokens, which one range for all tokens pays for everywhere else.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgekit.export.graph import Graph, weight_matmuls
from edgekit.quantize.embeddings import quantize_rows
from edgekit.quantize.restore import restore

SEVEN_BITS = 63


def narrowing(model: onnx.ModelProto) -> set[str]:
    """Names of the weight products that give fewer numbers than they take."""
    graph = Graph(model)
    shapes = {name: graph.tensors[node.input[1]].dims for name, node in weight_matmuls(graph).items()}
    return {name for name, (rows, columns) in shapes.items() if rows > columns}


def row_wise(model: onnx.ModelProto, fp32: onnx.ModelProto, names: set[str], reduced: bool = False) -> onnx.ModelProto:
    """A copy of ``model``, made from ``fp32``, in which the products of modules ``names`` are as described above.

    Weights are INT8 with a scale a column (7 bits if ``reduced``), activations UINT8 with zero at 128.
    """
    graph = Graph(restore(model, fp32, names))
    unit = [
        graph.add_constant("rows.scale", np.array(1 / 127, np.float32)),
        graph.add_constant("rows.zero", np.array(128, np.uint8)),
    ]
    least = graph.add_constant("rows.least", np.array(1e-30, np.float32))  # a row of zeros stays one
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    axes: dict[str, object] = {"axes": [-1]} if opset < 18 else {}
    last = [] if opset < 18 else [graph.add_constant("rows.axes", np.array([-1], np.int64))]
    made: dict[str, list[onnx.NodeProto]] = {}
    for name, node in weight_matmuls(graph).items():
        if name not in names:
            continue
        weight, x, out = graph.constant(node.input[1]), node.input[0], node.output[0]
        assert weight is not None
        codes, scales = quantize_rows(weight.T.astype(np.float32), SEVEN_BITS if reduced else 127)
        shared = node.input[1]  # a matrix may serve several layers
        matrix = [
            graph.add_constant(f"{shared}.rows.int8", codes.T),
            graph.add_constant(f"{shared}.rows.scales", scales.reshape(-1)),
            graph.add_constant(f"{shared}.rows.zeros", np.zeros(len(codes), np.int8)),
        ]
        steps: list[tuple[str, list[str], str, dict[str, object]]] = [
            ("Abs", [x], "magnitude", {}),
            ("ReduceMax", [f"{name}.magnitude", *last], "range", axes),
            ("Max", [f"{name}.range", least], "largest", {}),
            ("Div", [x, f"{name}.largest"], "unit", {}),
            ("QuantizeLinear", [f"{name}.unit", *unit], "codes", {}),
            ("DequantizeLinear", [f"{name}.codes", *unit], "rounded", {}),
            ("DequantizeLinear", matrix, "matrix", {"axis": 1}),
            ("MatMul", [f"{name}.rounded", f"{name}.matrix"], "product", {}),
        ]
        stem = node.name.rsplit("/", 1)[0]
        made[node.name] = [
            helper.make_node(kind, inputs, [f"{name}.{result}"], f"{stem}/rows/{result}", **more)
            for kind, inputs, result, more in steps
        ]
        made[node.name].append(
            helper.make_node("Mul", [f"{name}.product", f"{name}.largest"], [out], f"{stem}/rows/Mul")
        )
    graph.set_nodes([part for node in graph.proto.node for part in made.get(node.name, [node])])
    graph.prune()
    return graph.model
