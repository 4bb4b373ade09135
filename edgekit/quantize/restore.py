"""Weight products put back as fp32 has them."""

from __future__ import annotations

import onnx

from edgekit.export.graph import Graph, copy, weight_matmuls


def restore(quantized: onnx.ModelProto, fp32: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """A copy of ``quantized`` in which the weight products of modules ``names`` are those of ``fp32`` again.

    Both graphs call values by the same names, so each product is put back where its result is made, with its bias.
    """
    graph, source = Graph(copy(quantized)), Graph(fp32)
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
