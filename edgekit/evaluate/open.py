"""A stage's output folder as a predictor, whatever made it."""

from __future__ import annotations

from pathlib import Path

from edgekit.evaluate.predictors import Predictor, RuntimePredictor, TorchPredictor
from edgekit.runtimes import artifact


def open_predictor(folder: Path, threads: int = 1) -> Predictor:
    """The model in ``folder``: an engine's file where artifact.json says so, else our torch encoder.

    ``threads`` is what a single answer runs with. Raises ModelError when the folder holds neither.
    """
    if not artifact.is_artifact(folder):
        from edgekit.distill.clip.folder import is_dual

        if is_dual(folder):
            from edgekit.evaluate.torch_dual import TorchDualPredictor

            return TorchDualPredictor(folder, threads)
        return TorchPredictor(folder, threads)
    return RuntimePredictor(artifact.load_text(folder, threads), artifact.size_bytes(folder))
