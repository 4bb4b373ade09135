"""Static INT8 of convolution networks in ONNX: standard Q and DQ nodes where onnxruntime fuses them into INT8 kernels.

Weights are INT8 with a scale an output channel, activations UINT8 in calibrated ranges, biases INT32 (Jacob et al.
2018, section 2). Around every convolution stand Q and DQ on both sides, as its INT8 kernel gives INT8; behind a product
only where another reads it. The form follows from the set of modules that are quantized, so any may stay in float.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgekit.distill.ranges import RESULT, SUM, module_of
from edgekit.export.graph import Graph, copy, linear_name
from edgekit.quantize.embeddings import quantize_rows

Ranges = dict[str, tuple[float, float]]
Bias = dict[str, NDArray[np.float32]]  # what a module's bias is moved by

_BOUNDED = ("Relu", "Clip")
_ROUNDED = 255
SEVEN_BITS = 63


def modules(graph: Graph) -> dict[str, onnx.NodeProto]:
    """Every Conv, and every MatMul with a constant right side, by the name of its module, in order of execution."""
    found = {}
    for node in graph.proto.node:
        if node.op_type in ("Conv", "MatMul") and node.input[1] in graph.tensors:
            found[linear_name(node)] = node
    return found


def result_of(graph: Graph, node: onnx.NodeProto) -> str:
    """What ``node`` gives, after the activation that its INT8 kernel does by clipping."""
    readers = graph.readers[node.output[0]]
    if node.op_type == "Conv" and len(readers) == 1 and readers[0].op_type in _BOUNDED:
        return str(readers[0].output[0])
    return str(node.output[0])


def rounded_values(model: onnx.ModelProto) -> list[str]:
    """Names of all float values that may be rounded, which calibration looks at."""
    graph = Graph(model)
    found: dict[str, None] = {}
    for node in modules(graph).values():
        found[node.input[0]] = None
        if node.op_type == "Conv":
            found[result_of(graph, node)] = None
    for node in _sums(graph):
        found[node.output[0]] = None
    return list(found)


def value_names(model: onnx.ModelProto) -> dict[str, str]:
    """The values that are rounded where every module is INT8, by names that do not depend on the graph.

    A module's name for what it reads, with ``RESULT`` or ``SUM`` behind a Conv's for what it gives and is added into.
    """
    graph = Graph(model)
    parts = {module_of(name): node for name, node in modules(graph).items()}
    convolutions = {name: node for name, node in parts.items() if node.op_type == "Conv"}
    made = {result_of(graph, node): name for name, node in convolutions.items()}
    order = {name: place for place, name in enumerate(convolutions)}
    found = {value: name + RESULT for value, name in made.items()}
    for node in _sums(graph):
        added = [made[value] for value in node.input if value in made]
        if added and all(value in found for value in node.input):
            found[node.output[0]] = max(added, key=order.__getitem__) + SUM
    for name, node in parts.items():
        found.setdefault(node.input[0], name)
    return found


def quantized(
    model: onnx.ModelProto, ranges: Ranges, names: Iterable[str], reduced: bool = False, bias: Bias | None = None
) -> onnx.ModelProto:
    """A copy of float ``model`` whose modules ``names`` are INT8. ``ranges``: least and largest of every value.

    A sum that has none stays float. ``reduced``: weights of 7 bits. ``bias``: what the biases of Convs are moved by.
    """
    graph = Graph(copy(model))
    wanted = set(names)
    parts = {name: node for name, node in modules(graph).items() if name in wanted}
    made = {result_of(graph, node): node for node in parts.values() if node.op_type == "Conv"}
    for node in _sums(graph):
        if node.output[0] in ranges and all(name in made for name in node.input):
            made[node.output[0]] = node
    asked = {node.input[0] for node in parts.values()} - set(made)
    nodes: list[onnx.NodeProto] = []
    rounded = {value: _pair(graph, value, ranges[value]) for value in (*made, *sorted(asked))}
    outputs = {value.name for value in graph.proto.output}
    for node in graph.proto.node:
        node.input[:] = [rounded[v][1].output[0] if v in made and v not in outputs else v for v in node.input]
    for name, node in parts.items():
        if node.input[0] in asked:
            node.input[0] = rounded[node.input[0]][1].output[0]
        nodes += _weights(graph, node, rounded, reduced, (bias or {}).get(name))
    for port in graph.proto.input:
        nodes += rounded.get(port.name, ())
    for node in graph.proto.node:
        nodes.append(node)
        for value in node.output:
            nodes += rounded.get(value, ())
    graph.set_nodes(nodes)
    graph.prune()
    return graph.model


def _sums(graph: Graph) -> list[onnx.NodeProto]:
    """Additions of two computed values."""
    return [
        node
        for node in graph.proto.node
        if node.op_type == "Add" and not any(name in graph.tensors for name in node.input)
    ]


def _pair(graph: Graph, value: str, span: tuple[float, float]) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Q and DQ for ``value``: UINT8, zero in the range."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = max((high - low) / _ROUNDED, 1e-10)
    zero = int(np.clip(np.rint(-low / scale), 0, _ROUNDED))
    step = [
        graph.add_constant(f"{value}.scale", np.array(scale, np.float32)),
        graph.add_constant(f"{value}.zero", np.array(zero, np.uint8)),
    ]
    return (
        helper.make_node("QuantizeLinear", [value, *step], [f"{value}.codes"], f"{value}/Quantize"),
        helper.make_node("DequantizeLinear", [f"{value}.codes", *step], [f"{value}.rounded"], f"{value}/Dequantize"),
    )


def _weights(
    graph: Graph,
    node: onnx.NodeProto,
    rounded: dict[str, tuple[onnx.NodeProto, onnx.NodeProto]],
    reduced: bool,
    moved: NDArray[np.float32] | None,
) -> list[onnx.NodeProto]:
    """Let ``node`` read INT8 weights, and a Conv an INT32 bias. Returns the nodes that make them float."""
    weight = graph.constant(node.input[1])
    assert weight is not None
    axis = 0 if node.op_type == "Conv" else 1
    rows = np.moveaxis(weight.astype(np.float32), axis, 0)
    codes, scales = quantize_rows(rows.reshape(len(rows), -1), SEVEN_BITS if reduced else 127)
    named = f"{linear_name(node)}.int8"
    inputs = [
        graph.add_constant(named, np.moveaxis(codes.reshape(rows.shape), 0, axis)),
        graph.add_constant(f"{named}.scales", scales.reshape(-1)),
        graph.add_constant(f"{named}.zeros", np.zeros(len(rows), np.int8)),
    ]
    nodes = [helper.make_node("DequantizeLinear", inputs, [f"{named}.float"], f"{named}/Dequantize", axis=axis)]
    node.input[1] = f"{named}.float"
    given = graph.constant(node.input[2]) if len(node.input) > 2 else None
    if node.op_type == "Conv" and (given is not None or moved is not None):
        value = np.zeros(len(rows), np.float32) if given is None else given.astype(np.float32)
        step = graph.constant(next(p for p, q in rounded.values() if q.output[0] == node.input[0]).input[1])
        assert step is not None
        fine = (scales.reshape(-1) * np.float32(step.item())).astype(np.float32)
        whole = np.rint((value + (0 if moved is None else moved)).astype(np.float64) / fine)
        limits = np.iinfo(np.int32)
        inputs = [
            graph.add_constant(f"{named}.bias", np.clip(whole, limits.min, limits.max).astype(np.int32)),
            graph.add_constant(f"{named}.bias.scales", fine),
            graph.add_constant(f"{named}.bias.zeros", np.zeros(len(rows), np.int32)),
        ]
        nodes.append(
            helper.make_node("DequantizeLinear", inputs, [f"{named}.bias.float"], f"{named}.bias/Dequantize", axis=0)
        )
        del node.input[2:]
        node.input.append(f"{named}.bias.float")
    return nodes
