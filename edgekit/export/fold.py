"""Shapes that the tracer computes at every inference, made constants where they do not depend on the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from edgekit.export.graph import Graph, copy

_SHAPES = {"Reshape": 1, "Pad": 1, "Expand": 1}  # operator -> its input that is a shape or pads
_COPY = 0  # in a target shape of Reshape: the input's size on that axis


def fixed_shapes(model: onnx.ModelProto, feeds: Sequence[dict[str, NDArray[Any]]]) -> None:
    """Make target shapes and pads constants, in place, as far as they are the same for all ``feeds``.

    ``feeds``: inputs that differ in every size that may differ. In a target shape of Reshape a size that varies becomes
    "as the input's" where it is that in all feeds. What the feeds show is checked at every shape by the parity test.
    """
    graph = Graph(model)
    asked = [
        node
        for node in graph.proto.node
        if node.op_type in _SHAPES
        and len(node.input) > _SHAPES[node.op_type]
        and node.input[_SHAPES[node.op_type]] in graph.maker
    ]
    if not asked:
        return
    wanted = sorted({name for node in asked for name in (node.input[0], node.input[_SHAPES[node.op_type]])})
    seen = [dict(zip(wanted, _run(model, wanted, feed), strict=True)) for feed in feeds]
    for node in asked:
        place = _SHAPES[node.op_type]
        values = np.stack([one[node.input[place]] for one in seen])
        same = (values == values[0]).all(0)
        if not same.all() and node.op_type == "Reshape":
            shapes = [one[node.input[0]].shape for one in seen]
            copied = np.array([_copied(values[:, axis], shapes, axis) for axis in range(values.shape[1])])
            values = np.where(~same & copied, _COPY, values)
            same |= copied
        if same.all():
            name = f"{node.op_type.lower()}.{'.'.join(map(str, values[0].tolist()))}"
            node.input[place] = graph.add_constant(name, values[0].astype(np.int64))
    graph.refresh()
    graph.prune()


def _copied(sizes: NDArray[np.int64], shapes: list[tuple[int, ...]], axis: int) -> bool:
    return all(len(shape) > axis and shape[axis] == size for shape, size in zip(shapes, sizes, strict=True))


def _run(model: onnx.ModelProto, names: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The values called ``names``, inputs of ``model`` among them."""
    shown = copy(model)
    del shown.graph.output[:]
    inner = [name for name in names if name not in feed]
    shown.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {port.name: feed[port.name] for port in session.get_inputs()}
    found = dict(zip(inner, session.run(inner, given), strict=True))
    return [feed[name] if name in feed else found[name] for name in names]


def pads_into_convolutions(graph: Graph) -> None:
    """A Pad of zeros before one Conv becomes its own padding, in place: no quantizer looks through a Pad."""
    for node in graph.proto.node:
        if node.op_type != "Pad" or [n.op_type for n in graph.readers[node.output[0]]] != ["Conv"]:
            continue
        pads = graph.constant(node.input[1])
        fill = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        zero = (fill is None and not (len(node.input) > 2 and node.input[2])) or (fill is not None and not fill.any())
        mode = next((a.s for a in node.attribute if a.name == "mode"), b"constant")
        if pads is None or not zero or mode != b"constant":
            continue
        around = pads.reshape(2, -1)
        if around[:, :2].any():  # batch and channels stay as they are
            continue
        (conv,) = graph.readers[node.output[0]]
        own = next((a for a in conv.attribute if a.name == "pads"), None)
        already = [0] * around[:, 2:].size if own is None else list(own.ints)
        if own is not None:
            conv.attribute.remove(own)
        conv.attribute.append(
            helper.make_attribute("pads", [a + int(b) for a, b in zip(already, around[:, 2:].reshape(-1), strict=True)])
        )
        conv.input[0] = node.input[0]
    graph.refresh()
    graph.prune()
