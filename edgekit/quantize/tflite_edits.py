"""Edits of TFLite graphs that ai-edge-quantizer has no recipe for: float16 weights, INT8 rows of a table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgekit.export import tflite
from edgekit.export.tflite import Graph, Model, Operator

_Type = schema.TensorType


def float16_weights(model: Model, gathers: bool = True) -> None:
    """Store the matrices of products and the embedding table as float16. Kernels get float32: products when the file
    is loaded, the table row by row as it is read, or as a whole in a runtime that ``gathers`` no float16 rows.
    """
    stored = _Stored(model, lambda value: [value.astype(np.float16)])
    for graph in model.subgraphs:
        made: list[Operator] = []
        for operator in graph.operators:
            what = tflite.kind(model, operator)
            if what == "EMBEDDING_LOOKUP" and gathers:
                ids, table = operator.inputs
                rows = _gather(model, graph, made, stored.tensor(graph, table, 0, _Type.FLOAT16), ids, _Type.FLOAT16)
                operator = _operator(model, "DEQUANTIZE", [rows], operator.outputs[0])
            elif what in ("EMBEDDING_LOOKUP", "FULLY_CONNECTED") and stored.holds(graph, operator.inputs[1]):
                half = stored.tensor(graph, operator.inputs[1], 0, _Type.FLOAT16)
                whole = _new(graph, f"{_name(graph, half)}.float32", _shape(graph, half), _Type.FLOAT32)
                made.append(_operator(model, "DEQUANTIZE", [half], whole))
                operator.inputs = np.array([operator.inputs[0], whole, *operator.inputs[2:]], np.int32)
            made.append(operator)
        graph.operators = made


def int8_rows(model: Model) -> None:
    """Store the embedding table as INT8 with one scale a row: gather rows and scales, cast, multiply.

    EMBEDDING_LOOKUP reads such a table too, but keeps eight bytes of zeros a row beside it, and kernels of 2023 take
    the first scale for all rows.
    """
    stored = _Stored(model, _int8)
    for graph in model.subgraphs:
        made: list[Operator] = []
        for operator in graph.operators:
            if tflite.kind(model, operator) == "EMBEDDING_LOOKUP":
                ids, table = operator.inputs
                rows = _gather(model, graph, made, stored.tensor(graph, table, 0, _Type.INT8), ids, _Type.INT8)
                scales = _gather(model, graph, made, stored.tensor(graph, table, 1, _Type.FLOAT32), ids, _Type.FLOAT32)
                plain = _new(
                    graph, f"{_name(graph, rows)}.float32", tflite.shape_of(graph.tensors[rows]), _Type.FLOAT32
                )
                made.append(_operator(model, "CAST", [rows], plain, schema.CastOptionsT(_Type.INT8, _Type.FLOAT32)))
                operator = _operator(model, "MUL", [plain, scales], operator.outputs[0], schema.MulOptionsT())
            made.append(operator)
        graph.operators = made


def _int8(table: NDArray[np.float32]) -> list[NDArray[np.generic]]:
    """INT8 (V, H) and float32 scales (V, 1), symmetric."""
    scales = np.abs(table).max(1, keepdims=True) / 127
    scales[scales == 0] = 1
    return [np.round(table / scales).astype(np.int8), scales.astype(np.float32)]


class _Stored:
    """Constants in a new form, made once for all graphs that share their buffer."""

    def __init__(self, model: Model, form: Callable[[NDArray[np.float32]], list[NDArray[np.generic]]]) -> None:
        self.model, self.form = model, form
        self.made: dict[int, list[tuple[int, tuple[int, ...]]]] = {}

    def holds(self, graph: Graph, place: int) -> bool:
        return tflite.constant(self.model, graph.tensors[place]) is not None

    def tensor(self, graph: Graph, place: int, part: int, type_: int) -> int:
        """A tensor of ``graph`` for one part of the new form of constant ``place``; returns its place."""
        old = graph.tensors[place]
        if old.buffer not in self.made:
            value = tflite.constant(self.model, old)
            assert value is not None
            self.made[old.buffer] = [(tflite.add_buffer(self.model, v), v.shape) for v in self.form(value)]
        buffer, shape = self.made[old.buffer][part]
        found = _new(graph, f"{_name(graph, place)}.{part}", shape, type_)
        graph.tensors[found].buffer = buffer
        return found


def _gather(model: Model, graph: Graph, made: list[Operator], table: int, ids: int, type_: int) -> int:
    """Rows ``ids`` of constant ``table``; the place of the tensor that holds them."""
    shape = (*_shape(graph, ids), _shape(graph, table)[1])
    rows = _new(graph, f"{_name(graph, table)}.rows", shape, type_)
    made.append(_operator(model, "GATHER", [table, ids], rows, schema.GatherOptionsT()))
    return rows


def _new(graph: Graph, name: str, shape: tuple[int, ...], type_: int) -> int:
    graph.tensors.append(schema.TensorT(name=name, shape=np.array(shape, np.int32), type=type_))
    return len(graph.tensors) - 1


def _shape(graph: Graph, place: int) -> tuple[int, ...]:
    return tflite.shape_of(graph.tensors[place])


def _name(graph: Graph, place: int) -> str:
    name = graph.tensors[place].name
    return name.decode() if isinstance(name, bytes) else str(name)


def _operator(model: Model, what: str, inputs: list[int], output: int, options: object = None) -> Operator:
    kind = f"{type(options).__name__.removesuffix('T')}" if options is not None else "NONE"
    return schema.OperatorT(
        opcodeIndex=tflite.add_operator_code(model, what),
        inputs=np.array(inputs, np.int32),
        outputs=np.array([output], np.int32),
        builtinOptionsType=getattr(schema.BuiltinOptions, kind),
        builtinOptions=options,
    )
