"""Small tools on ONNX graphs that export and quantization share: look up, replace, prune, write."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


class Graph:
    """A model's graph with its constants at hand. ``model`` is changed in place; call :meth:`prune` when done."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.proto = model.graph
        self.tensors = {tensor.name: tensor for tensor in self.proto.initializer}
        self.refresh()

    def refresh(self) -> None:
        """Learn again who makes and who reads each value."""
        self.maker = {name: node for node in self.proto.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.proto.node:
            for name in reads(node):
                self.readers[name].append(node)

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The value of initializer ``name``, or None when it is not one."""
        tensor = self.tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def add_constant(self, name: str, value: NDArray[np.generic]) -> str:
        """Store ``value`` under ``name`` (replacing what was there) and return the name."""
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), name)
        if name in self.tensors:
            self.tensors[name].CopyFrom(tensor)
        else:
            self.proto.initializer.append(tensor)
            self.tensors[name] = self.proto.initializer[-1]
        return name

    def replace_uses(self, old: str, new: str) -> None:
        """Let every reader of ``old`` read ``new``."""
        _replace(self.proto, old, new)

    def set_nodes(self, nodes: list[onnx.NodeProto]) -> None:
        """Take ``nodes``, in order of execution, as the graph's."""
        fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.proto.node[:]
        self.proto.node.extend(fresh)
        self.refresh()

    def prune(self) -> None:
        """Drop nodes and constants that no output needs, and inferred shapes, which passes make stale."""
        needed = {value.name for value in self.proto.output}
        kept = []
        for node in reversed(self.proto.node):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(name for name in reads(node) if name)
        self.set_nodes(kept[::-1])
        tensors = [t for t in self.proto.initializer if t.name in needed]
        fresh = [onnx.TensorProto.FromString(t.SerializeToString()) for t in sorted(tensors, key=lambda t: t.name)]
        del self.proto.initializer[:]
        self.proto.initializer.extend(fresh)
        self.tensors = {tensor.name: tensor for tensor in self.proto.initializer}
        del self.proto.value_info[:]


def reads(node: onnx.NodeProto) -> list[str]:
    """Names of the values that ``node`` reads, those in its branches (of an If) as well."""
    inner = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [*node.input, *(name for branch in inner for part in branch.node for name in reads(part))]


def _replace(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _replace(attribute.g, old, new)


def linear_name(node: onnx.NodeProto) -> str:
    """``/layers.0/attention/qkv/MatMul`` -> ``layers.0.attention.qkv``: the module that a node was traced from."""
    return node.name.strip("/").rsplit("/", 1)[0].replace("/", ".")


def weight_matmuls(graph: Graph) -> dict[str, onnx.NodeProto]:
    """Every MatMul with a constant right side, by the name of its module, in order of execution."""
    return {linear_name(n): n for n in graph.proto.node if n.op_type == "MatMul" and n.input[1] in graph.tensors}


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of its own with the same content."""
    return onnx.ModelProto.FromString(model.SerializeToString())


def save(model: onnx.ModelProto, path: Path) -> int:
    """Write ``model`` so that equal models give equal bytes; returns the size. Whole or not at all."""
    data = model.SerializeToString(deterministic=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return len(data)
