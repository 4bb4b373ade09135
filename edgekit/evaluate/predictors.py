"""Models of any engine behind one face.

All share the runtime's tokenizing, windows and aggregation, so that a comparison is one of models and never of
preprocessing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgekit.bundle.records import TaskSpec
from edgekit.data.pictures import PictureTextSet
from edgekit.errors import ModelError
from edgekit.evaluate.outputs import Outputs
from edgekit.progress import Progress, Silent, track
from edgekit.runtimes.pipeline import TextPipeline
from edgekit.runtimes.preprocess import TextPreprocessor
from edgekit.runtimes.threads import usable_cpus

if TYPE_CHECKING:
    import torch

    from edgekit.data import HeldOut
    from edgekit.runtimes.model import Model

SLICE = 512  # texts between two moves of the progress bar


class Predictor(Protocol):
    """A model under evaluation."""

    @property
    def size_bytes(self) -> int:
        """Bytes on disk of the files that an answer needs: weights, configuration, tokenizer."""

    def predict(self, data: HeldOut, progress: Progress = Silent()) -> Outputs:
        """What the model says to all of ``data``; shapes: :mod:`edgekit.evaluate.outputs`."""

    def answer(self, example: Any) -> Any:
        """One inference from input to answer, batch 1: what latency is measured on."""


class TextPredictor(ABC):
    """What models of texts share: answers to a whole set, in their order."""

    @abstractmethod
    def outputs(self, texts: Sequence[str], progress: Progress = Silent()) -> Any:
        """float32 (n, C) logits, (n, D) embeddings, or for tag a list of (words, C), in the order of ``texts``."""

    def predict(self, data: HeldOut, progress: Progress = Silent()) -> Outputs:
        """Outputs for a whole set: one matrix (a list for tag), or for pairs the tuple of both sides' embeddings."""
        assert not isinstance(data, PictureTextSet), "a model of texts"
        first: Outputs = self.outputs(data.texts, progress)
        if data.pairs is None:
            return first
        return first, self.outputs(data.pairs, progress)  # type: ignore[return-value]


class RuntimePredictor(TextPredictor):
    """A model file in the device runtime; ``size_bytes`` is the caller's count of the files that it needs."""

    def __init__(self, model: Model, size_bytes: int) -> None:
        self.model = model
        self._size_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def outputs(self, texts: Sequence[str], progress: Progress = Silent()) -> Any:
        return _by_slices(self.model.logits, texts, progress, f"{self.model.engine} {self.model.precision}")

    def answer(self, example: str) -> Any:
        return self.model.run(example)


class TorchPredictor(TextPredictor):
    """A torch model's folder (config.json, model.safetensors, tokenizer.json) in torch, fp32, on the CPU.

    ``threads`` is what :meth:`answer` runs with; :meth:`outputs` uses every usable processor.
    Raises ModelError when the folder is not such a model.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        from edgekit.distill.foreign import open_torch

        self.folder, self.threads = Path(folder), threads
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (self.folder / name).is_file():
                raise ModelError(str(self.folder), found=f"no {name}", expected="a folder that edgekit trained")
        self.encoder = open_torch(self.folder)
        self.spec = spec_of(self.encoder.config)
        self._pipeline = TextPipeline(TextPreprocessor(self.folder / "tokenizer.json", self.spec), self._forward)

    @property
    def size_bytes(self) -> int:
        return sum((self.folder / n).stat().st_size for n in ("config.json", "model.safetensors", "tokenizer.json"))

    def outputs(self, texts: Sequence[str], progress: Progress = Silent()) -> Any:
        set_threads(usable_cpus())
        return _by_slices(self._pipeline.outputs, texts, progress, "torch fp32")

    def answer(self, example: str) -> Any:
        set_threads(self.threads)
        return self._pipeline.outputs([example])

    def _forward(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            found: torch.Tensor = self.encoder(torch.from_numpy(ids), torch.from_numpy(mask.copy()))
        return found.numpy()


def spec_of(config: Any) -> TaskSpec:
    """The :class:`TaskSpec` of an ``EncoderConfig`` or a ``ForeignConfig``."""
    return TaskSpec(
        task=config.task,
        labels=list(config.labels),
        max_length=config.max_tokens,
        stride=min(config.stride, config.max_tokens // 2),
        pad_id=int(config.pad_token_id or 0),
        normalize=bool(config.normalize) and config.task == "embed",
    )


def predict(predictor: Predictor, data: HeldOut, progress: Progress = Silent()) -> Outputs:
    """Outputs of ``predictor`` for a whole set."""
    return predictor.predict(data, progress)


def set_threads(count: int) -> None:
    """Let torch use ``count`` threads."""
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _by_slices(call: Any, texts: Sequence[str], progress: Progress, label: str) -> Any:
    texts = list(texts)
    if len(texts) <= SLICE:
        return call(texts)
    starts = range(0, len(texts), SLICE)
    parts = [call(texts[i : i + SLICE]) for i in track(progress, f"answers of {label}", starts, len(starts))]
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    return np.concatenate(parts)
