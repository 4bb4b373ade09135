"""OpenVINO on the CPU: one stream, threads given, and arithmetic that is the same on every machine where it can be."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from edgekit.errors import EngineError, MissingDependencyError
from edgekit.runtimes.engines.openvino_cache import prepared

NAME = "openvino"
# Left to itself OpenVINO computes the float parts in bfloat16 (x86 with AMX or AVX512-BF16) or float16 (arm64). fp32
# must not. In w8a8 it gave the same cosine and, with AMX, -5 % to +9 % of speed (16 and 128 tokens), at the price of
# other answers on each machine. Files that state 16 bits get what they state: there it is 2 to 3 times as fast.
SIXTEEN_BITS = ("fp16", "w8a16")

_TELEMETRY = "openvino_telemetry"
_CONVERTER = "openvino.tools.ovc"


def silence() -> None:
    """Let no part of OpenVINO or NNCF call home, which they do as soon as they are imported.

    There is no switch. With the package that sends out of reach, they fall back on stubs of their own.
    """
    loaded = sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]  # None makes every import of it fail
    if loaded is not None:  # the caller imported it before us
        loaded.main.TelemetrySender.send = lambda *_: None


def import_openvino() -> Any:
    """The package, silent. Raises ``MissingDependencyError``.

    Its converter, which no inference needs, is imported when it is first asked for: that saves 14 MB and 0.1 s.
    """
    silence()
    late = "openvino" not in sys.modules and _CONVERTER not in sys.modules
    if late:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            "engine openvino cannot be imported", found=str(error), fix="pip install edgekit[openvino]"
        ) from None
    finally:
        if late:
            del sys.modules[_CONVERTER]
    if late:
        openvino.__getattr__ = _late
    return openvino


def _late(name: str) -> Any:
    """What ``openvino`` lacks while its converter is not imported, for others in this process that use it."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    from openvino.tools.ovc import convert_model

    return convert_model


class OpenVinoEngine:
    """One compiled model and one request on the CPU. Calls from several threads wait for each other."""

    batching = True  # every range is fixed in the file or, with dynamic quantization, a token's own
    # Each shape gets buffers and kernels of its own, kept as long as 5,000 fit. Over phrases of 4 to 44 tokens the 95th
    # percentile of a 3-layer model was 9.3 ms as they come and 3.8 padded to multiples of 16, the median 1.8 and 1.5.
    length_step = 16
    extra: ClassVar[dict[str, Any]] = {}  # settings of a subclass

    def __init__(
        self,
        model_path: Path,
        threads: int,
        inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
        output: str = "",
        precision: str = "fp32",
    ) -> None:
        openvino = import_openvino()
        name = Path(model_path).name
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_MMAP": False,  # what is written to a mapped file later would be in the answers
            **self.extra,
        }
        if precision not in SIXTEEN_BITS:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        if cache := prepared(Path(model_path), openvino.__version__):
            settings["CACHE_DIR"] = cache
        try:
            compiled = openvino.Core().compile_model(str(model_path), "CPU", settings)
        except Exception as error:
            raise EngineError(f"openvino cannot load {name}", found=_short(error)) from None
        named = {alias: place for place, port in enumerate(compiled.inputs) for alias in port.get_names()}
        if len(compiled.inputs) != len(inputs) or not named.keys() >= set(inputs):
            raise EngineError(f"inputs of {name}", found=sorted(named), expected=sorted(inputs))
        chosen = [place for place, port in enumerate(compiled.outputs) if not output or output in port.get_names()]
        if not chosen or compiled.output(chosen[0]).get_element_type() != openvino.Type.f32:
            listed = ", ".join(
                f"{'/'.join(p.get_names())} {p.get_element_type().get_type_name()}" for p in compiled.outputs
            )
            raise EngineError(f"outputs of {name}", found=listed, expected=f"{output or 'one'} f32")
        width = compiled.output(chosen[0]).get_partial_shape()[-1]
        self.output_width: int | None = width.get_length() if width.is_static else None
        self.version: str = openvino.__version__
        self.inputs = inputs
        places = [named[alias] for alias in inputs]
        self._types = [compiled.input(place).get_element_type().to_dtype() for place in places]
        self._ids, self._mask = places if len(places) == 2 else (places[0], len(places))  # the latter is no input
        self._output = chosen[0]
        self._lock = threading.Lock()
        self._tensor = openvino.Tensor
        self._request = compiled.create_infer_request()

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """int64 (B, T) twice -> float32, (B, C), (B, D) or (B, T, C), the caller's own. Raises ``EngineError``."""
        request = self._request
        try:
            first = self._tensor(np.ascontiguousarray(ids, self._types[0]))  # a copy
            second = self._tensor(np.ascontiguousarray(mask, self._types[1]))
            with self._lock:
                # Tensors by place cost 30 us of Python a call, infer([ids, mask]) 55. And infer() must not be used:
                # with one thread, OpenVINO 2026.4 swallows its errors there and leaves the last answer in place.
                request.set_input_tensor(self._ids, first)
                request.set_input_tensor(self._mask, second)
                request.start_async()
                request.wait()
                return request.get_output_tensor(self._output).data.copy()  # type: ignore[no-any-return]
        except Exception as error:
            raise EngineError(f"openvino failed on an input of shape {ids.shape}", found=_short(error)) from None

    def run_one(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """float32 (B, 3, S, S) or int64 (B, T) -> float32 (B, D), of a file with one input. Raises ``EngineError``."""
        request = self._request
        if len(self.inputs) != 1:  # the other would keep what an earlier call left there
            raise EngineError("openvino: inputs", found=list(self.inputs), expected="one, for run_one")
        try:
            tensor = self._tensor(np.ascontiguousarray(values, self._types[0]))
            with self._lock:
                request.set_input_tensor(self._ids, tensor)
                request.start_async()  # not infer(): see run
                request.wait()
                return request.get_output_tensor(self._output).data.copy()  # type: ignore[no-any-return]
        except Exception as error:
            raise EngineError(f"openvino failed on an input of shape {values.shape}", found=_short(error)) from None


def _short(error: Exception) -> str:
    """The message without the places in OpenVINO's sources that it starts with."""
    lines = [line for line in str(error).splitlines() if "Exception from src/" not in line]
    return " ".join(" ".join(lines).split())[:300] or type(error).__name__
