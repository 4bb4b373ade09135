"""What the quantize stage asks of an engine: ways to make INT8, parts that can stay in float, a file in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from edgekit.distill.ranges import Ranges

Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """What a backend starts from. ``fp32``: the engine's own fp32 artifact; ``torch``: the model that it came from.

    ``feeds``: calibration inputs, int64 (1, T) ``input_ids`` and ``attention_mask``; ``embeddings_int8``: whether the
    embedding table may be INT8; ``reduce_range``: as in QuantizeConfig. ``kind``: what the model's weights are in;
    a tower for pictures has feeds of float32 (1, 3, S, S) ``pixel_values``. ``trained``: the ranges that the model was
    trained for, which candidate ``qat`` rounds to.
    """

    fp32: Path
    torch: Path
    feeds: list[Feed]
    embeddings_int8: bool
    seed: int
    reduce_range: bool | str = "auto"
    kind: Literal["transformer", "convolution"] = "transformer"
    trained: Ranges = field(default_factory=dict)


class Backend(Protocol):
    """The quantizers of one engine. A model is whatever the backend works on; the caller only hands it back."""

    engine: str

    def variants(self, name: str) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Ways to make candidate ``name``, the usual one first; each is a label and a function that gives a model."""

    def matrices(self) -> dict[str, int]:
        """Every weight matrix that is quantized, by its module's name (``layers.0.up``), and its number of weights."""

    def keep_float(self, model: Any, names: set[str]) -> Any:
        """A copy of ``model`` in which the products of matrices ``names`` are those of fp32 again."""

    def write(self, model: Any, folder: Path) -> int:
        """Write the model's files to ``folder``, equal models as equal bytes; returns their size."""


def open_backend(engine: str, source: Source) -> Backend:
    """The backend of ``engine``. Its libraries are imported here and not before."""
    if engine == "onnxruntime" and source.kind == "convolution":
        from edgekit.quantize.onnx_convolution import OnnxConvolutionBackend

        return OnnxConvolutionBackend(source)
    if engine == "onnxruntime":
        from edgekit.quantize.onnxruntime import OnnxBackend

        return OnnxBackend(source)
    if engine == "openvino" and source.kind == "convolution":
        from edgekit.quantize.openvino_convolution import OpenVinoConvolutionBackend

        return OpenVinoConvolutionBackend(source)
    if engine == "openvino":
        from edgekit.quantize.openvino import OpenVinoBackend

        return OpenVinoBackend(source)
    from edgekit.quantize.litert import LiteRtBackend

    return LiteRtBackend(source, engine)
