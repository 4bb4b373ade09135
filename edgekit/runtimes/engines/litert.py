"""LiteRT, and tflite-runtime before it: TFLite files of static shapes.

With two inputs (ids, mask): one signature ``tokens_<length>`` a length. With one input: a single signature, any name.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgekit.errors import EngineError, MissingDependencyError

PREFIX = "tokens_"  # of a signature's name; its length follows
_STDERR = threading.Lock()


class _Bucket(NamedTuple):
    """What running one signature takes: its subgraph, the tensors' places in it, and arrays for its inputs."""

    length: int
    subgraph: int
    ids_at: int
    mask_at: int
    output_at: int
    ids: npt.NDArray[np.int32]  # (1, length)
    mask: npt.NDArray[np.int32]  # of a file without a mask, whose mask_at is ids_at, not used


class _Single(NamedTuple):
    """What running a file with one input takes. ``shape``: the input's, whose first size is 1."""

    subgraph: int
    input_at: int
    output_at: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class LiteRtEngine:
    """One interpreter with all lengths of a file. Threads take turns; texts of a batch run one by one.

    Below the signature runners that the package documents: those plan their memory anew at each call, which
    costs 0.07 ms of 1.2. XNNPACK holds its own copy of the weights for every length in the file.
    """

    package = "ai_edge_litert"
    fix = "pip install edgekit[litert]"
    length_step = 1  # it has its own lengths
    batching = False  # rows run alone in any case; this way none is padded to its neighbours' length

    def __init__(
        self,
        model_path: Path,
        threads: int,
        inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
        output: str = "",
        precision: str = "fp32",
    ) -> None:
        del precision  # the file itself says all
        interpreter, self.version = self._import()
        self.inputs = inputs
        self._lock = threading.Lock()
        self._buckets: list[_Bucket] = []  # of files with two inputs
        self._alone: list[_Bucket] = []  # of files with token ids alone
        self._ready: dict[int, _Bucket] = {}  # length of a text -> its bucket, which has memory
        name = Path(model_path).name
        with without_notes():
            try:
                # by a path it would map the file: what is written there later would be in the answers
                content = Path(model_path).read_bytes()
                self._interpreter = interpreter(model_content=content, num_threads=threads)
            except Exception as error:
                raise EngineError(f"{self.package} cannot load {name}", found=_short(error)) from None
            try:
                # gives XNNPACK its parts; what cannot run shows here. It refuses while others hold the inner object.
                self._interpreter.allocate_tensors()
                self._engine = self._interpreter._interpreter
                signatures = self._engine.GetSignatureDefs()
                first: _Bucket | _Single
                if len(inputs) == 1 and not all(name.startswith(PREFIX) for name in signatures):
                    first = self._single = _single(self._engine, signatures, inputs[0], output)
                else:
                    found = _buckets(self._engine, signatures, inputs, output)
                    first = found[0]
                    self._buckets, self._alone = (found, []) if len(inputs) == 2 else ([], found)
                self._engine.AllocateTensors(first.subgraph)
                width = self._engine.TensorSize(first.output_at, first.subgraph)[-1]
                kind = np.dtype(self._engine.TensorType(first.output_at, first.subgraph))
            except EngineError as error:
                raise EngineError(f"{error.what} of {name}", found=error.found, expected=error.expected) from None
            except Exception as error:
                raise EngineError(f"{self.package} cannot run {name}", found=_short(error)) from None
        if kind != np.float32:
            raise EngineError(f"output of {name}", found=kind, expected="float32")
        self.output_width: int | None = int(width)
        self._allocated = {first.subgraph}

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """int64 (B, T) twice -> float32 (B, C), (B, D) or (B, T, C). Raises ``EngineError``."""
        rows, length = ids.shape
        with self._lock:
            bucket = self._ready.get(length) or self._prepare(length)
            size, subgraph, ids_at, mask_at, output_at, ids_in, mask_in = bucket
            engine, outputs = self._engine, []
            if length < size:
                ids_in[0, length:] = 0
                mask_in[0, length:] = 0
            try:
                for row in range(rows):
                    ids_in[0, :length] = ids[row]
                    mask_in[0, :length] = mask[row]
                    engine.SetTensor(ids_at, ids_in, subgraph)
                    engine.SetTensor(mask_at, mask_in, subgraph)
                    engine.Invoke(subgraph)
                    outputs.append(engine.GetTensor(output_at, subgraph))
            except Exception as error:
                raise EngineError(f"{self.package} failed on {length} tokens", found=_short(error)) from None
        found: npt.NDArray[np.float32] = outputs[0] if rows == 1 else np.concatenate(outputs)
        return found[:, :length] if found.ndim == 3 else found

    def run_one(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """float32 (B, 3, S, S) or int64 (B, T) -> float32 (B, D), of a file with one input. Raises ``EngineError``."""
        if len(self.inputs) != 1:
            raise EngineError(f"{self.package}: inputs", found=list(self.inputs), expected="one, for run_one")
        if self._alone:
            return self._run_ids(values)
        subgraph, input_at, output_at, shape, dtype = self._single
        if values.shape[1:] != shape[1:] or not len(values):
            raise EngineError(f"input of shape {values.shape}", expected=f"(B, {', '.join(map(str, shape[1:]))})")
        rows, engine, outputs = np.ascontiguousarray(values, dtype), self._engine, []
        try:
            with self._lock:
                for row in range(len(rows)):
                    engine.SetTensor(input_at, rows[row : row + 1], subgraph)
                    engine.Invoke(subgraph)
                    outputs.append(engine.GetTensor(output_at, subgraph))
        except Exception as error:
            raise EngineError(f"{self.package} failed on shape {values.shape}", found=_short(error)) from None
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _run_ids(self, ids: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """int64 (B, T) -> float32 (B, D), of a file that takes token ids alone, in signatures of several lengths.

        A shorter text ends with zeros, which only a tower may be given that does not look at padding.
        """
        rows, length = ids.shape
        with self._lock:
            bucket = self._bucket(self._alone, length)
            engine, outputs = self._engine, []
            bucket.ids[0, length:] = 0
            try:
                for row in range(rows):
                    bucket.ids[0, :length] = ids[row]
                    engine.SetTensor(bucket.ids_at, bucket.ids, bucket.subgraph)
                    engine.Invoke(bucket.subgraph)
                    outputs.append(engine.GetTensor(bucket.output_at, bucket.subgraph))
            except Exception as error:
                raise EngineError(f"{self.package} failed on {length} tokens", found=_short(error)) from None
        return outputs[0] if rows == 1 else np.concatenate(outputs)

    def _prepare(self, length: int) -> _Bucket:
        """The smallest bucket for ``length`` tokens, which gets its memory when it is first needed."""
        if not self._buckets:
            raise EngineError(f"{self.package}: inputs", found=list(self.inputs), expected="token ids and mask")
        bucket = self._ready[length] = self._bucket(self._buckets, length)
        return bucket

    def _bucket(self, buckets: list[_Bucket], length: int) -> _Bucket:
        bucket = next((b for b in buckets if b.length >= length), None)
        if bucket is None:
            raise EngineError(
                "tokens of a text",
                found=length,
                expected=f"at most {buckets[-1].length}, the file's largest length",
            )
        if bucket.subgraph not in self._allocated:
            try:
                self._engine.AllocateTensors(bucket.subgraph)
            except Exception as error:
                raise EngineError(f"{self.package}: {bucket.length} tokens", found=_short(error)) from None
            self._allocated.add(bucket.subgraph)
        return bucket

    @classmethod
    def _import(cls) -> tuple[Any, str]:
        try:
            package = import_module(cls.package)
            return import_module(f"{cls.package}.interpreter").Interpreter, package.__version__
        except ImportError as error:
            raise MissingDependencyError(
                f"engine {cls.package} cannot be imported", found=str(error), fix=cls.fix
            ) from None


class TfliteRuntimeEngine(LiteRtEngine):
    """The same interface in tflite-runtime, which old boards still have. Its last version, 2.14, is of 2023."""

    package = "tflite_runtime"
    fix = 'pip install tflite-runtime "numpy<2"'


def _single(engine: Any, signatures: dict[str, Any], name: str, output: str) -> _Single:
    """The only signature of a file with one input. Raises ``EngineError`` for a file that is not one of ours."""
    if len(signatures) != 1:
        raise EngineError("signatures", found=sorted(signatures), expected="one")
    ((key, signature),) = signatures.items()
    if list(signature["inputs"]) != [name]:
        raise EngineError("inputs", found=sorted(signature["inputs"]), expected=[name])
    outputs = signature["outputs"]
    if output and output not in outputs:
        raise EngineError("outputs", found=sorted(outputs), expected=output)
    subgraph, place = engine.GetSubgraphIndexFromSignature(key), signature["inputs"][name]
    shape = tuple(int(n) for n in engine.TensorSize(place, subgraph))
    if not shape or shape[0] != 1:
        raise EngineError(f"input {name}", found=f"shape {shape}", expected="one row: (1, ...)")
    dtype = np.dtype(engine.TensorType(place, subgraph))
    if dtype not in (np.float32, np.int32, np.int64):
        raise EngineError(f"input {name}", found=str(dtype), expected="float32, int32 or int64")
    return _Single(subgraph, place, outputs[output] if output else next(iter(outputs.values())), shape, dtype)


def _buckets(engine: Any, signatures: dict[str, Any], inputs: tuple[str, ...], output: str) -> list[_Bucket]:
    """All signatures of the file, the shortest first. Raises ``EngineError`` for a file that is not one of ours."""
    found = []
    for name, signature in signatures.items():
        length = name.removeprefix(PREFIX)
        if not (name.startswith(PREFIX) and length.isdecimal() and length.isascii()):
            raise EngineError("signature", found=name, expected=f"{PREFIX}<length>")
        if set(signature["inputs"]) != set(inputs):
            raise EngineError("inputs", found=sorted(signature["inputs"]), expected=sorted(inputs))
        outputs = signature["outputs"]
        if output and output not in outputs:
            raise EngineError("outputs", found=sorted(outputs), expected=output)
        subgraph = engine.GetSubgraphIndexFromSignature(name)
        places = [signature["inputs"][each] for each in inputs]
        for place in places:
            shape = tuple(int(n) for n in engine.TensorSize(place, subgraph))
            kind = np.dtype(engine.TensorType(place, subgraph))
            if shape != (1, int(length)) or kind != np.int32:
                raise EngineError(f"input of {name}", found=f"{kind} {shape}", expected=f"int32 (1, {length})")
        output_at = outputs[output] if output else next(iter(outputs.values()))
        ids, mask = np.zeros((2, 1, int(length)), np.int32)
        found.append(_Bucket(int(length), subgraph, places[0], places[-1], output_at, ids, mask))
    if not found:
        raise EngineError("signatures", found="none", expected=f"{PREFIX}<length>, one or more")
    return sorted(found, key=lambda bucket: bucket.length)


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Keep the library's INFO lines, for which it has no switch, off stderr. All other lines are passed on at the end.

    It writes them to the process's stderr from C++, so that is where they are held up, for the time of a load.
    """
    with _STDERR, tempfile.TemporaryFile() as held:
        try:
            stderr = os.dup(2)
        except OSError:  # there is none
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            held.seek(0)
            for line in held:
                if not line.startswith(b"INFO:"):
                    os.write(stderr, line)
            os.close(stderr)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
