"""A stage's output folder as a predictor, whatever made it."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.bundle.records import TaskSpec
from edgekit.errors import ModelError
from edgekit.evaluate.predictors import Predictor, RuntimePredictor, TorchPredictor
from edgekit.runtimes.model import Model

ONNX_FILES = ("model.onnx", "tokenizer.json")


def open_predictor(folder: Path, threads: int = 1) -> Predictor:
    """The model in ``folder``: an engine's file where artifact.json says so, else our torch encoder.

    ``threads`` is what a single answer runs with. Raises ModelError when the folder holds neither.
    """
    if not (folder / "artifact.json").is_file():
        return TorchPredictor(folder, threads)
    about = json.loads((folder / "artifact.json").read_text("utf-8"))
    if about.get("kind") != "onnx":
        raise ModelError(f"{folder / 'artifact.json'}: kind", found=repr(about.get("kind")), expected="onnx")
    model = Model.from_files(
        folder / "model.onnx",
        folder / "tokenizer.json",
        read_spec(folder),
        engine=about["engine"],
        precision=about["precision"],
        threads=threads,
    )
    return RuntimePredictor(model, sum((folder / name).stat().st_size for name in ONNX_FILES))


def read_spec(folder: Path) -> TaskSpec:
    """The task.json of an exported model."""
    spec: TaskSpec = TaskSpec.from_dict(json.loads((folder / "task.json").read_text("utf-8")), "task.json")
    return spec
