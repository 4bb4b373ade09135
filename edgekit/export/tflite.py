"""TFLite files as objects: read, look at, write. What repeats in a file is written once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder
from numpy.typing import NDArray

Model: TypeAlias = schema.ModelT
Graph: TypeAlias = schema.SubGraphT
Operator: TypeAlias = schema.OperatorT
Tensor: TypeAlias = schema.TensorT

_CODES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
_TYPES: dict[int, type[np.generic]] = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT8: np.int8,
}
_ALIGNMENT = 16  # bytes, of every buffer, as the schema asks


def read(source: Path | bytes | bytearray) -> Model:
    """The model in a file or in its bytes. Weights are views of those bytes."""
    data = source.read_bytes() if isinstance(source, Path) else bytes(source)
    model = Model.InitFromPackedBuf(data, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:  # some writers put large buffers behind the rest
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    return model


def write(model: Model, path: Path) -> int:
    """Write ``model``, equal models as equal bytes; returns the file's size.

    Signatures hold their own copy of each list of scales, shapes and names; in the file there is one of each.
    """
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None  # it says nothing
    _compact(model)
    builder = _SharingBuilder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    data = builder.Output()
    path.write_bytes(data)
    return len(data)


def _compact(model: Model) -> None:
    """Drop buffers that nobody reads. All tensors without a value share the first one, which is empty."""
    users = list(model.metadata or [])
    for graph in model.subgraphs:
        read = {int(place) for operator in graph.operators for place in operator.inputs}
        for place, tensor in enumerate(graph.tensors):
            if place in read:
                users.append(tensor)
            else:
                tensor.buffer = 0
    kept = [schema.BufferT()]
    places = {0: 0}
    for user in users:
        if user.buffer not in places:
            data = model.buffers[user.buffer].data
            places[user.buffer] = len(kept) if data is not None and len(data) else 0
            if places[user.buffer]:
                kept.append(model.buffers[user.buffer])
        user.buffer = places[user.buffer]
    model.buffers = kept


class _SharingBuilder(Builder):
    """Writes equal vectors and strings once. Offsets of FlatBuffers may point to one place from many."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._known: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:
        data = np.ascontiguousarray(x).view(np.uint8).reshape(-1)
        key = (x.dtype.str, hashlib.blake2b(data.data).digest())
        if key not in self._known:
            if x.dtype == np.uint8:  # a buffer's bytes, which kernels read as whatever type they are
                self.StartVector(1, data.size, _ALIGNMENT)
                self.head -= data.size
                self.Bytes[self.head : self.head + data.size] = data.tobytes()
                self._known[key] = self.EndVector()
            else:
                self._known[key] = super().CreateNumpyVector(x)
        return self._known[key]

    def CreateString(self, s: str | bytes, encoding: str = "utf-8", errors: str = "strict") -> int:
        key = ("name", s.encode(encoding, errors) if isinstance(s, str) else s)
        if key not in self._known:
            self._known[key] = super().CreateString(s, encoding, errors)
        return self._known[key]


def kind(model: Model, operator: Operator) -> str:
    """The operator's name in the schema, such as FULLY_CONNECTED."""
    code = model.operatorCodes[operator.opcodeIndex]
    return _CODES[max(code.builtinCode, code.deprecatedBuiltinCode)]


def constant(model: Model, tensor: Tensor) -> NDArray[Any] | None:
    """The value of a constant tensor, in its own type and shape; None for one that is computed."""
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or tensor.type not in _TYPES:
        return None
    return np.asarray(data, np.uint8).view(_TYPES[tensor.type]).reshape(shape_of(tensor))


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The tensor's shape; () for a scalar."""
    return () if tensor.shape is None else tuple(int(n) for n in tensor.shape)


def add_buffer(model: Model, value: NDArray[Any]) -> int:
    """A new buffer with the bytes of ``value``; returns its index."""
    model.buffers.append(schema.BufferT(data=np.ascontiguousarray(value).view(np.uint8).reshape(-1)))
    return len(model.buffers) - 1


def add_operator_code(model: Model, name: str) -> int:
    """The index of operator ``name`` among the model's codes, added where it is missing."""
    code = getattr(schema.BuiltinOperator, name)
    for index, known in enumerate(model.operatorCodes):
        if max(known.builtinCode, known.deprecatedBuiltinCode) == code:
            return index
    model.operatorCodes.append(schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127)))
    return len(model.operatorCodes) - 1
