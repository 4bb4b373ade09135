"""A stage's output folder as a predictor, whatever made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.evaluate.predictors import Predictor, RuntimePredictor, TorchPredictor
from edgekit.runtimes import artifact
from edgekit.runtimes.model import Model

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel


def open_predictor(folder: Path, threads: int = 1) -> Predictor:
    """The model in ``folder``: an engine's file where artifact.json says so, else our torch encoder.

    ``threads`` is what a single answer runs with. Raises ModelError when the folder holds neither.
    """
    if not artifact.is_artifact(folder):
        from edgekit.distill.clip.dual import is_dual

        if is_dual(folder):
            from edgekit.evaluate.torch_dual import TorchDualPredictor

            return TorchDualPredictor(folder, threads)
        return TorchPredictor(folder, threads)
    return predictor_of(artifact.load(folder, threads), artifact.size_bytes(folder))


def predictor_of(model: Model | DualModel, size_bytes: int) -> Predictor:
    """A loaded model as a predictor; ``size_bytes`` is the caller's count of the files that it needs."""
    if isinstance(model, Model):
        return RuntimePredictor(model, size_bytes)
    from edgekit.evaluate.dual_predictor import DualRuntimePredictor

    return DualRuntimePredictor(model, size_bytes)
