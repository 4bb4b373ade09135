"""What the tracer leaves behind, made plain: fewer nodes, constants as constants, weights named by their module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.export.graph import Graph, linear_name


def simplify(model: onnx.ModelProto, reshapes: bool = True) -> onnx.ModelProto:
    """Change ``model`` in place, with the same results, and return it.

    ``reshapes``: whether a size that is read from any tensor's first two axes is the batch and the length, as in our
    own encoder.
    """
    graph = Graph(model)
    _lift_constants(graph)
    _drop_identities(graph)
    _gemm_to_matmul(graph)
    if reshapes:
        _fixed_reshapes(graph)
    _merge_unsqueezes(graph)
    graph.prune()
    _name_weights(graph)
    graph.prune()
    for node in graph.proto.node:
        node.doc_string = ""
    return model


def _lift_constants(graph: Graph) -> None:
    """Constant nodes become initializers, equal ones shared."""
    seen: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    kept = []
    for node in graph.proto.node:
        if node.op_type != "Constant":
            kept.append(node)
            continue
        value = numpy_helper.to_array(node.attribute[0].t)
        key = (str(value.dtype), value.shape, value.tobytes())
        if key not in seen:
            seen[key] = graph.add_constant(f"constant.{len(seen)}", value)
        graph.replace_uses(node.output[0], seen[key])
    graph.set_nodes(kept)


def _drop_identities(graph: Graph) -> None:
    """The tracer stores equal weights once and reads the others through Identity: read the weight itself."""
    for node in graph.proto.node:
        if node.op_type == "Identity" and node.input[0] in graph.tensors:
            graph.replace_uses(node.output[0], node.input[0])
    graph.refresh()


def _gemm_to_matmul(graph: Graph) -> None:
    """``x W' + b`` of 2-D inputs as MatMul and Add, the form that every quantizer of ours looks for."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.proto.node:
        weight = graph.constant(node.input[1]) if node.op_type == "Gemm" else None
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = attributes.get("alpha", 1.0) == 1.0 and attributes.get("beta", 1.0) == 1.0
        if weight is None or not plain or attributes.get("transA", 0) or len(node.input) != 3:
            nodes.append(node)
            continue
        name = f"{node.input[1]}.matrix"
        graph.add_constant(name, weight.T if attributes.get("transB", 0) else weight)
        stem, product = node.name.rsplit("/", 1)[0], f"{node.output[0]}.product"
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [product], f"{stem}/MatMul"))
        nodes.append(helper.make_node("Add", [product, node.input[2]], list(node.output), f"{stem}/Add"))
    graph.set_nodes(nodes)


def _fixed_reshapes(graph: Graph) -> None:
    """A target shape (batch, length, constants...) that was computed becomes the constant (0, 0, constants...)."""
    for node in graph.proto.node:
        if node.op_type != "Reshape" or node.input[1] not in graph.maker:
            continue
        concat = graph.maker[node.input[1]]
        if concat.op_type != "Concat" or len(concat.input) < 3:
            continue
        dims = [_axis_read(graph, name) for name in concat.input[:2]]
        tail = [graph.constant(name) for name in concat.input[2:]]
        if dims != [0, 1] or any(value is None for value in tail):
            continue
        shape = [0, 0, *(int(value.reshape(-1)[0]) for value in tail if value is not None)]
        node.input[1] = graph.add_constant(f"shape.{'.'.join(map(str, shape))}", np.array(shape, np.int64))
    graph.refresh()


def _axis_read(graph: Graph, name: str) -> int | None:
    """Which axis's size ``Unsqueeze(Gather(Shape(x), axis))`` reads, or None for anything else."""
    unsqueeze = graph.maker.get(name)
    gather = graph.maker.get(unsqueeze.input[0]) if unsqueeze and unsqueeze.op_type == "Unsqueeze" else None
    if gather is None or gather.op_type != "Gather":
        return None
    shape, index = graph.maker.get(gather.input[0]), graph.constant(gather.input[1])
    if shape is None or shape.op_type != "Shape" or index is None:
        return None
    return int(index.reshape(-1)[0])


def _merge_unsqueezes(graph: Graph) -> None:
    """Two Unsqueeze nodes in a row, of rising axes, become one."""
    for node in graph.proto.node:
        before = graph.maker.get(node.input[0]) if node.op_type == "Unsqueeze" else None
        if before is None or before.op_type != "Unsqueeze" or len(graph.readers[before.output[0]]) != 1:
            continue
        first, second = graph.constant(before.input[1]), graph.constant(node.input[1])
        if first is None or second is None:
            continue
        axes: Sequence[int] = [int(a) for a in (*first.reshape(-1), *second.reshape(-1))]
        if min(axes) < 0 or list(axes) != sorted(set(axes)):
            continue
        node.input[0] = before.input[0]
        node.input[1] = graph.add_constant(f"axes.{'.'.join(map(str, axes))}", np.array(axes, np.int64))
        graph.refresh()


def _name_weights(graph: Graph) -> None:
    """The tracer numbers transposed weights; the module's name instead keeps bytes free of its counters.

    A module that runs twice gives two products of one name: the second gets its own, and both read the same weight.
    """
    named: dict[str, str] = {}
    count: dict[str, int] = {}
    for node in graph.proto.node:
        if node.op_type == "MatMul" and node.input[1] in graph.tensors:
            module = linear_name(node)
            count[module] = count.get(module, 0) + 1
            if count[module] > 1:
                stem, kind = node.name.rsplit("/", 1)
                node.name = f"{stem}.{count[module]}/{kind}"
            value = graph.constant(node.input[1])
            if value is not None and node.input[1] not in named:
                named[node.input[1]] = graph.add_constant(f"{linear_name(node)}.weight", value)
            node.input[1] = named[node.input[1]]
    graph.refresh()
