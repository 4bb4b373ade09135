"""Rewrites of OpenVINO models for INT8: embedding tables, products back in float, products in ranges that are given."""

from __future__ import annotations

import numpy as np

from edgekit.distill import ranges as ranges_file
from edgekit.distill.ranges import Ranges
from edgekit.errors import ModelError
from edgekit.export.ir import Model, Node, constant, convolutions, is_constant, products, source
from edgekit.quantize.embeddings import quantize_rows
from edgekit.runtimes.engines.openvino import import_openvino


def int8_tables(model: Model) -> int:
    """Rewrite, in place, every Gather or Slice of rows from a constant float table; returns the number of tables.

    As in :mod:`edgekit.quantize.embeddings`: one scale a row, gathered first and scaled after.
    """
    operators = import_openvino().opset13
    done = 0
    for node in model.get_ordered_ops():
        if not _takes_rows(node):
            continue
        codes, scales = quantize_rows(source(node, 0).data)
        rest = node.input_values()[1:]
        take = operators.gather if node.get_type_name() == "Gather" else operators.slice
        rows = operators.convert(take(constant(codes), *rest), np.float32)
        scaled = operators.multiply(rows, take(constant(scales), *rest))
        replace(node, scaled)
        done += 1
    model.validate_nodes_and_infer_types()
    return done


def replace(node: Node, other: Node) -> None:
    """Let every reader of ``node``'s only output read ``other`` instead."""
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(other.output(0))


def restore(quantized: Model, fp32: Model, names: set[str]) -> Model:
    """A copy of ``quantized`` in which the products and convolutions of modules ``names`` are those of ``fp32`` again.

    Both models call nodes by the same names. A product reads its input from before any smoothing and rounding, its own
    weights and its own bias, which a quantizer may have corrected for its errors.
    """
    model = quantized.clone()
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    for name, product in (products(fp32) | convolutions(fp32)).items():
        if name not in names:
            continue
        back = nodes[product.get_friendly_name()]
        before = product.input_value(0)
        back.input(0).replace_source_output(nodes[before.get_node().get_friendly_name()].output(before.get_index()))
        back.input(1).replace_source_output(constant(source(product, 1).data).output(0))
        for reader in product.output(0).get_target_inputs():
            add = reader.get_node()
            place = 1 - reader.get_index()
            if add.get_type_name() == "Add" and is_constant(source(add, place)):
                bias = constant(source(add, place).data)
                nodes[add.get_friendly_name()].input(place).replace_source_output(bias.output(0))
    model.validate_nodes_and_infer_types()
    return model


def drop_idle_rounding(model: Model) -> None:
    """Take out, in place, activations' FakeQuantize nodes that serve no INT8 product or convolution any more.

    One that is added to another value serves what reads the sum.
    """
    parts = (products(model) | convolutions(model)).values()
    int8 = {node.get_name() for node in parts if not is_constant(source(node, 1))}
    for node in reversed(model.get_ordered_ops()):
        if node.get_type_name() == "FakeQuantize" and not is_constant(source(node, 0)) and not _serves(node, int8):
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(node.input_value(0))
    model.validate_nodes_and_infer_types()


def _serves(node: Node, int8: set[str]) -> bool:
    readers = [port.get_node() for port in node.output(0).get_target_inputs()]
    through = ("Add", "Clamp", "Relu", "FakeQuantize")
    return any(one.get_name() in int8 or (one.get_type_name() in through and _serves(one, int8)) for one in readers)


def with_ranges(model: Model, ranges: Ranges) -> Model:
    """A copy of float ``model`` whose products read UINT8 inputs in ``ranges`` and symmetric INT8 weights.

    ``ranges``: a product's scale and zero point by its name, as quantization-aware training leaves them. Weights have
    a scale an output channel. Raises ModelError when a product has no range.
    """
    operators = import_openvino().opset13
    model = model.clone()
    for name, product in products(model).items():
        if name not in ranges:
            raise ModelError(ranges_file.NAME, found=f"nothing on {name}", expected="a range for every product")
        scale, zero = ranges[name]
        low, high = (constant(np.array(scale * (code - zero), np.float32)) for code in (0, 255))
        rounded = operators.fake_quantize(product.input_value(0), low, high, low, high, 256)
        weight = source(product, 1).data
        transposed = product.get_attributes()["transpose_b"]
        codes, scales = quantize_rows(weight if transposed else weight.T)
        if not transposed:
            codes, scales = codes.T, scales.T
        floats = operators.multiply(operators.convert(constant(codes), np.float32), constant(scales))
        product.input(0).replace_source_output(rounded.output(0))
        product.input(1).replace_source_output(floats.output(0))
    model.validate_nodes_and_infer_types()
    return model


def sizes(model: Model) -> dict[str, int]:
    """The number of weights of every product of float ``model``, by its module's name."""
    return _sizes(products(model))


def all_sizes(model: Model) -> dict[str, int]:
    """The number of weights of every product and convolution of float ``model``, by its module's name."""
    return _sizes(products(model) | convolutions(model))


def _sizes(parts: dict[str, Node]) -> dict[str, int]:
    return {name: int(np.prod(source(part, 1).shape)) for name, part in parts.items()}


def _takes_rows(node: Node) -> bool:
    """Whether ``node`` picks whole rows of a constant float table."""
    if node.get_type_name() not in ("Gather", "Slice"):
        return False
    table, axis = source(node, 0), source(node, 2 if node.get_type_name() == "Gather" else 4)
    if not is_constant(table) or not is_constant(axis):
        return False
    floats = table.get_element_type() == import_openvino().Type.f32
    return bool(floats and len(table.shape) == 2 and axis.data.reshape(-1).tolist() == [0])
