"""onnxruntime's execution providers: which are asked for, with which options, and what to say where one is missing.

Options as onnxruntime's pages on its TensorRT and CUDA execution providers document them. TensorRT and CUDA were not
run here: no machine with such a GPU was at hand. What can be known without one (these functions) is tested.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgekit.errors import InputError

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
# What each device asks for, the first choice first: nodes that one provider does not know go to the next.
DEVICES = {"cpu": (CPU,), "cuda": (CUDA, CPU), "gpu": (TENSORRT, CUDA, CPU)}
GPU_PROVIDERS = (TENSORRT, CUDA)
NOT_RUN_HERE = "TensorRT and CUDA were not run by edgekit's makers"
# Files that a GPU runs whole, the first choice first. TensorRT knows no dynamic quantization and no shifted INT8.
GPU_PRECISIONS = ("fp16", "fp32")
Dimension = int | str | None  # a number, or the name of a free one


class Lengths(NamedTuple):
    """Tokens of a text: the fewest, those to be fastest at, the most. TensorRT builds one engine for this range."""

    least: int = 1
    best: int = 32
    most: int = 128


ANY_LENGTH = Lengths()


@dataclass(frozen=True)
class Place:
    """Where an engine is to run a file: a key of :data:`DEVICES`, and the lengths to be ready for."""

    device: str = "cpu"
    lengths: Lengths = ANY_LENGTH

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InputError("device", found=repr(self.device), expected=", ".join(DEVICES))


ON_CPU = Place()


def profile_shape(shape: Sequence[Dimension], length: int) -> tuple[int, ...]:
    """``shape`` with numbers for its free dimensions: 1 for the first, as rows go one at a time, else ``length``."""
    return tuple(side if isinstance(side, int) else (length if place else 1) for place, side in enumerate(shape))


def tensorrt_options(
    folder: str, precision: str, inputs: Mapping[str, Sequence[Dimension]], lengths: Lengths
) -> dict[str, str]:
    """The TensorRT provider's options: engine and timing cache in ``folder``, arithmetic by the file's ``precision``.

    fp32 files compute in FP32 (TF32 on Ampere and later, which TensorRT does by itself), fp16 and w8a16 in FP16, w8a8
    in INT8 with the scales of the file. ``inputs``: name to shape, free dimensions as text or None; those that have
    one get an optimization profile, so that one engine serves the whole range and is built when the session is.
    """
    options = {
        "device_id": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_engine_cache_prefix": "edgekit",
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
        "trt_context_memory_sharing_enable": "1",
        "trt_fp16_enable": "1" if precision in ("fp16", "w8a16") else "0",
        "trt_int8_enable": "1" if precision == "w8a8" else "0",
    }
    free = {name: shape for name, shape in inputs.items() if not all(isinstance(side, int) for side in shape)}
    for option, length in (("min", lengths.least), ("opt", lengths.best), ("max", lengths.most)):
        listed = [f"{name}:{'x'.join(map(str, profile_shape(shape, length)))}" for name, shape in free.items()]
        if listed:
            options[f"trt_profile_{option}_shapes"] = ",".join(listed)
    return options


def cuda_options(precision: str) -> dict[str, str]:
    """The CUDA provider's options: no TF32, so that fp32 files answer as they do elsewhere; memory as it is needed."""
    return {
        "device_id": "0",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0" if precision == "fp32" else "1",
    }


def cache_name(gpu: str, tensorrt: str, onnxruntime: str, sha256: str, options: Mapping[str, str]) -> str:
    """The folder of a TensorRT engine: one that any of these made otherwise is another folder, and so never loaded.

    ``gpu``: its architecture ("sm_87"); ``sha256``: the model file's; ``options``: without paths, which do not count.
    """
    counted = {key: value for key, value in options.items() if not key.endswith("_path")}
    digest = hashlib.sha256(json.dumps([sha256, counted], sort_keys=True).encode()).hexdigest()
    return f"{_plain(gpu)}-trt{_plain(tensorrt)}-ort{_plain(onnxruntime)}-{digest[:24]}"


def _plain(word: str) -> str:
    """``word`` as part of a file name; anything else than letters, digits, dot and underscore becomes its code."""
    return "".join(one if one.isascii() and (one.isalnum() or one in "._") else f"~{ord(one):x}" for one in word)


def fell_back(asked: Sequence[str], built: Sequence[str], got: Sequence[str], version: str) -> str:
    """Why providers that were ``asked`` for are not among those the session ``got``; "" where all are.

    ``built``: what this onnxruntime was built with.
    """
    missing = [one for one in asked if one not in got]
    if not missing:
        return ""
    absent = [one for one in missing if one not in built]
    causes = []
    if absent:
        causes.append(f"onnxruntime {version} as installed is built without {', '.join(absent)}: {HOW}")
    if broken := [one for one in missing if one in built]:
        causes.append(
            f"{', '.join(broken)} did not start: the libraries (TensorRT, CUDA, cuDNN) are missing or of other "
            "versions than this onnxruntime was built for, see what it printed on stderr"
        )
    return "; ".join(causes)


HOW = (
    "on a Jetson install NVIDIA's onnxruntime-gpu in its place (docs/boards/jetson.md), on x86-64 "
    "`pip uninstall onnxruntime` and `pip install onnxruntime-gpu`"
)
