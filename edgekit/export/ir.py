"""Small tools on OpenVINO models that export and quantization share: weight products, stable names, writing."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.runtimes.engines.openvino import import_openvino

Model = Any  # openvino.Model; the package comes without types
Node = Any


def convert(source: Any, **more: Any) -> Model:
    """``source``, an ONNX file's path or a torch module, as an OpenVINO model; silently."""
    import_openvino()
    from openvino.tools.ovc import convert_model

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on constants that the tracer takes; lengths are none of them
            return convert_model(source, **more)
    finally:
        logging.disable(before)


def is_constant(node: Node) -> bool:
    """Whether ``node`` is a Constant."""
    return bool(node.get_type_name() == "Constant")


def source(node: Node, place: int) -> Node:
    """The node that makes input ``place`` of ``node``."""
    return node.input_value(place).get_node()


def constant(value: NDArray[Any], name: str = "") -> Node:
    """A Constant that holds a copy of ``value`` in its own dtype."""
    made = import_openvino().op.Constant(np.ascontiguousarray(value))
    if name:
        made.set_friendly_name(name)
    return made


def weight_of(product: Node) -> Node | None:
    """The Constant that the right side of a MatMul is made of, through INT8 or FP16 decompression; None if computed."""
    node = source(product, 1)
    while node.get_type_name() in ("Convert", "Multiply", "Subtract", "Reshape"):
        node = source(node, 0)
    return node if is_constant(node) else None


def products(model: Model) -> dict[str, Node]:
    """Every MatMul with a constant right side, by the name of its module, in order of execution.

    After :func:`name_nodes`, whatever the model came from.
    """
    found = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and weight_of(node) is not None:
            found[_module(node.get_friendly_name())] = node
    return found


def convolutions(model: Model) -> dict[str, Node]:
    """Every convolution by the name of its module, in order of execution. After :func:`name_nodes`, as products."""
    kinds = ("Convolution", "GroupConvolution")
    found = [node for node in model.get_ordered_ops() if node.get_type_name() in kinds]
    return {_module(node.get_friendly_name()): node for node in found if weight_of(node) is not None}


def _module(name: str) -> str:
    """``layers.0.up/MatMul``, or ``__module.layers.0.up/aten::linear/MatMul`` as the converter names what it takes from

    torch, or ``/layers.0/up/MatMul`` as it stands in ONNX -> ``layers.0.up``.
    """
    if name.startswith("__module."):
        return name.removeprefix("__module.").split("/", 1)[0]
    return name.strip("/").removesuffix("/WithoutBiases").rsplit("/", 1)[0].replace("/", ".")


def name_nodes(model: Model, output: str, last: str = "classifier") -> None:
    """Give every node of ``model`` a name that the next conversion gives it too: the converter's hold a counter.

    Products go by their module, their weights by its parameter; the output's tensor is called ``output``. ``last``: the
    module of the product that gives it, where no bias follows and the product itself came by that name.
    """
    named = {}
    for module, node in products(model).items():
        name = last if module == output else module
        named[node.get_name()] = f"{name}/MatMul"
        weight = weight_of(node)
        assert weight is not None
        named.setdefault(weight.get_name(), f"{name}.weight")
    for name, node in convolutions(model).items():
        named[node.get_name()] = f"{name}/Convolution"
    inputs = {port.get_node().get_name() for port in model.inputs}
    for place, node in enumerate(model.get_ordered_ops()):
        if node.get_name() not in inputs:
            node.set_friendly_name(named.get(node.get_name(), f"{node.get_type_name()}_{place}"))
            for port in node.outputs():
                port.get_tensor().set_names(set())
    for port in model.inputs:
        port.get_node().set_friendly_name(port.get_any_name())
    model.outputs[0].get_tensor().set_names({output})
    model.set_friendly_name("edgekit")


def save(model: Model, folder: Path) -> int:
    """Write ``model`` to model.xml and model.bin in ``folder``, equal models as equal bytes; returns their size."""
    openvino = import_openvino()
    written = model.clone()
    name_nodes(written, written.outputs[0].get_any_name())
    for key in set(written.rt_info.keys()) - {"runtime_options"}:  # paths, versions; only the options mean something
        del written.rt_info[key]
    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(written, folder / "model.xml", compress_to_fp16=False)
    return sum((folder / name).stat().st_size for name in ("model.xml", "model.bin"))
