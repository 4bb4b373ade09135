"""A TFLite graph of one static length as a graph for each of several lengths, all with the same weights."""

from __future__ import annotations

import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgekit.errors import StageError
from edgekit.export.tflite import Graph, Model, Tensor, add_buffer, add_operator_code, constant, kind, shape_of

PREFIX = "tokens_"  # of a signature's name; its length follows
WEIGHTED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")  # operators whose second input is a weight
_CANDIDATES = (61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127)


def marker(dimensions: set[int]) -> int:
    """A length to convert at: one that no other axis has, so that every axis of that size is the length's.

    ``dimensions``: the sizes of all other axes.
    """
    return next(n for n in _CANDIDATES if n not in dimensions)


def with_lengths(model: Model, length: int, lengths: list[int], positions: NDArray[np.float32]) -> Model:
    """``model``, whose one graph is for ``length`` tokens, with a graph and a signature for each of ``lengths``.

    ``positions``: the whole position table, float32 (longest, H), of which the graph holds the first rows.
    """
    (graph,) = model.subgraphs
    (signature,) = model.signatureDefs
    table = add_buffer(model, positions)
    model.subgraphs, model.signatureDefs = [], []
    for tokens in sorted(lengths):
        model.subgraphs.append(_at_length(model, graph, length, tokens, table, len(positions)))
        one = copy.copy(signature)
        one.signatureKey, one.subgraphIndex = f"{PREFIX}{tokens}", len(model.subgraphs) - 1
        model.signatureDefs.append(one)
    return model


def _at_length(model: Model, graph: Graph, length: int, tokens: int, table: int, longest: int) -> Graph:
    made = copy.copy(graph)
    made.name = f"{PREFIX}{tokens}"
    made.tensors = [_tensor_at_length(model, tensor, length, tokens) for tensor in graph.tensors]
    made.operators = list(graph.operators)
    rows = [t for t in made.tensors if constant(model, t) is not None and shape_of(t)[:1] == (length,)]
    if len(rows) != 1:
        raise StageError("constants of the exported graph that go by the length", found=len(rows), expected=1)
    _take_rows(model, made, rows[0], tokens, table, longest)
    for tensor in made.tensors:
        tensor.name = f"{tokens}/{tensor.name}"
    return made


def _tensor_at_length(model: Model, tensor: Tensor, length: int, tokens: int) -> Tensor:
    made, value = copy.copy(tensor), constant(model, tensor)
    if value is not None:
        if value.dtype == np.int32 and (value == length).any():  # a shape that some operator reads
            made.buffer = add_buffer(model, np.where(value == length, tokens, value).astype(np.int32))
        return made
    if tensor.shape is not None:
        made.shape = np.where(tensor.shape == length, tokens, tensor.shape).astype(np.int32)
    return made


def _take_rows(model: Model, graph: Graph, rows: Tensor, tokens: int, table: int, longest: int) -> None:
    """Make the constant ``rows`` the first ``tokens`` rows of the table, which stands in the file once."""
    width, rows.name = shape_of(rows)[1], "position"
    rows.shape = np.array([tokens, width], np.int32)
    if tokens == longest:
        rows.buffer = table
        return
    place = next(index for index, tensor in enumerate(graph.tensors) if tensor is rows)
    first = len(graph.tensors)
    for name, value in (("begin", [0, 0]), ("size", [tokens, width])):
        buffer = add_buffer(model, np.array(value, np.int32))
        shape = np.array([2], np.int32)
        graph.tensors.append(
            schema.TensorT(name=f"{rows.name}.{name}", type=schema.TensorType.INT32, shape=shape, buffer=buffer)
        )
    whole = copy.copy(rows)
    whole.shape, whole.buffer = np.array([longest, width], np.int32), table
    whole.name = f"{rows.name}.weight"
    graph.tensors.append(whole)
    rows.buffer = 0
    graph.operators.insert(
        0,
        schema.OperatorT(
            opcodeIndex=add_operator_code(model, "SLICE"),
            inputs=np.array([first + 2, first, first + 1], np.int32),
            outputs=np.array([place], np.int32),
            builtinOptionsType=schema.BuiltinOptions.SliceOptions,
            builtinOptions=schema.SliceOptionsT(),
        ),
    )


def name_graphs(model: Model) -> None:
    """Name graphs and tensors of a model that has a graph for each length, as :func:`with_lengths` does.

    Weights are called ``product.3.weight`` after the first product that reads them, what that one gives ``product.3``,
    and what others give that read them too ``product.3.again.57``. Signatures are called ``tokens_16`` already.
    """
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        graph.name = signature.signatureKey
        tokens = graph.name.decode().removeprefix(PREFIX)
        products: dict[int, str] = {}  # tensor of weights -> its product's name
        for index, operator in enumerate(graph.operators):
            what = kind(model, operator)
            name = f"{what.lower()}.{index}"
            if what in WEIGHTED and constant(model, graph.tensors[operator.inputs[1]]) is not None:
                weight = int(operator.inputs[1])
                known = weight in products
                first = products.setdefault(weight, f"product.{len(products)}")
                graph.tensors[weight].name = f"{tokens}/{first}.weight"
                name = f"{first}.again.{index}" if known else first
            for place in operator.outputs:
                graph.tensors[place].name = f"{tokens}/{name}"
        for place, tensor in enumerate(graph.tensors):
            text = tensor.name if isinstance(tensor.name, str) else tensor.name.decode()
            if not text.startswith(f"{tokens}/"):
                tensor.name = f"{tokens}/tensor.{place}"
        for entry in signature.inputs:
            graph.tensors[entry.tensorIndex].name = f"{tokens}/{entry.name.decode()}"


def name_tensors(model: Model, linears: list[tuple[str, tuple[int, ...]]]) -> None:
    """Name the tensors of the one graph after the modules of the encoder, the products in the order of ``linears``.

    ``linears``: name and shape of each weight matrix. What a product ``layers.0.up`` gives has its name, its weights
    are ``layers.0.up.weight``; the rest goes by its operator. Raises StageError where the graph holds other products.
    """
    (graph,) = model.subgraphs
    tensors = graph.tensors
    found: list[tuple[str, tuple[int, ...]]] = []
    for index, operator in enumerate(graph.operators):
        what = kind(model, operator)
        name = f"{what.lower()}.{index}"
        if what == "FULLY_CONNECTED" and constant(model, tensors[operator.inputs[1]]) is not None:
            name = linears[len(found)][0] if len(found) < len(linears) else name
            found.append((name, shape_of(tensors[operator.inputs[1]])))
        elif what == "EMBEDDING_LOOKUP":
            name = "word"
        for suffix, place in zip(("input", "weight", "bias"), operator.inputs, strict=False):
            if place >= 0 and constant(model, tensors[place]) is not None:
                tensors[place].name = f"{name}.{suffix}"
        for place in operator.outputs:
            tensors[place].name = name
    for entry in model.signatureDefs[0].inputs:
        tensors[entry.tensorIndex].name = entry.name.decode()
    if found != linears:
        raise StageError("weight products of the exported graph", found=found, expected=linears)
