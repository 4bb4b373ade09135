"""onnxruntime: telemetry off, threads given, memory bounded."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import EngineError, MissingDependencyError

NAME = "onnxruntime"
# Runs above this many tokens give the arena's free memory back when they end; below it, that would cost latency.
SHRINK_ABOVE_TOKENS = 1024


def _import() -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the library initialises
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "engine onnxruntime cannot be imported", found=str(error), fix="pip install edgekit[onnxruntime]"
        ) from None
    onnxruntime.disable_telemetry_events()  # in case the caller imported it before us
    return onnxruntime


class OnnxRuntimeEngine:
    """One ``session`` on the CPU. Safe to use from several threads, as onnxruntime's sessions are."""

    length_step = 1  # no length costs more than its tokens

    def __init__(
        self,
        model_path: Path,
        threads: int,
        inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
        output: str = "",
        precision: str = "fp32",
    ) -> None:
        del precision  # the file itself says all
        ort = _import()
        options = self.options(ort, threads)
        try:
            self.session = ort.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EngineError(f"onnxruntime cannot load {Path(model_path).name}", found=_short(error)) from None
        names = {value.name for value in self.session.get_inputs()}
        if names != set(inputs):
            raise EngineError(f"inputs of {Path(model_path).name}", found=sorted(names), expected=sorted(inputs))
        outputs = self.session.get_outputs()
        chosen = [value for value in outputs if value.name == output] if output else outputs[:1]
        if not chosen or chosen[0].type != "tensor(float)":
            listed = ", ".join(f"{value.name} {value.type}" for value in outputs)
            raise EngineError(f"outputs of {Path(model_path).name}", found=listed, expected=f"{output or 'one'} float")
        self.output_width: int | None = chosen[0].shape[-1] if isinstance(chosen[0].shape[-1], int) else None
        self.version: str = ort.__version__
        self.batching = not _quantizes_at_run_time(Path(model_path))
        self.inputs = inputs
        self._ids, self._mask = inputs if len(inputs) == 2 else (inputs[0], "")
        self._outputs = [chosen[0].name]
        self._call = self.session.run
        self._shrink = ort.RunOptions()
        self._shrink.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def options(self, ort: Any, threads: int) -> Any:
        """The session's options; ``ort``: the package."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # one plan a shape is kept for ever, and every length is a shape
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        return options

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """int64 (B, T) twice -> float32, (B, C), (B, D) or (B, T, C). Raises ``EngineError``."""
        try:
            if ids.size > SHRINK_ABOVE_TOKENS:
                return self._call(self._outputs, {self._ids: ids, self._mask: mask}, self._shrink)[0]  # type: ignore[no-any-return]
            return self._call(self._outputs, {self._ids: ids, self._mask: mask})[0]  # type: ignore[no-any-return]
        except Exception as error:
            raise EngineError(f"onnxruntime failed on an input of shape {ids.shape}", found=_short(error)) from None

    def run_one(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """float32 (B, 3, S, S) or int64 (B, T) -> float32 (B, D), of a file with one input. Raises ``EngineError``."""
        try:
            if len(values) > 1:  # rows here are pictures, or texts of full length
                return self._call(self._outputs, {self._ids: values}, self._shrink)[0]  # type: ignore[no-any-return]
            return self._call(self._outputs, {self._ids: values})[0]  # type: ignore[no-any-return]
        except Exception as error:
            raise EngineError(f"onnxruntime failed on an input of shape {values.shape}", found=_short(error)) from None


def _quantizes_at_run_time(path: Path) -> bool:
    """Whether the file takes activation ranges from each input. They are taken over the whole batch, so a text would
    be rounded by its neighbours' outliers and by their padding."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(b"DynamicQuantize") >= 0  # operator names stand in the file as plain text


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
