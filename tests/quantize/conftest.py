"""fp32 ONNX of two real layers, and a judge that holds outputs against it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.distill import folder as folders
from edgekit.distill.convert import import_model
from edgekit.export import export_onnx
from edgekit.export.onnx import read_spec
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes.model import Model

CALIBRATION = [
    "a charming, funny film",
    "the plot is thin and the jokes fall flat",
    "it runs for two hours and nobody in the room looked at a watch",
    "no",
    "I would watch it again tomorrow, and so would everyone I know who likes a quiet story well told",
    "Two boys in front of a soda machine.",
    "what is my balance on the savings account, please?",
    "the most interesting thing about it is the way the camera never lets go of her face",
]
HELD_OUT = ["an honest and moving portrait", "how do I cancel my card", "dull", "A man is playing a large flute."]


@pytest.fixture(scope="session")
def fp32_folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two layers of MiniLM for task embed. Shared: do not write to it."""
    work = tmp_path_factory.mktemp("quantize")
    source = import_model(str(tiny_model), "embed", max_length=64, stride=16)
    folders.save(source.encoder, source.tokenizer, work / "torch")
    export_onnx(work / "torch", work / "onnx", ExportConfig(), CALIBRATION[:2])
    return work / "onnx"


@pytest.fixture(scope="session")
def cosine_judge() -> Callable[[Path], Callable[[Model], tuple[float, dict[str, Any]]]]:
    """Of a folder, a judge: 1 - mean cosine to that folder's fp32 embeddings on texts that calibration never saw."""

    def make(folder: Path) -> Callable[[Model], tuple[float, dict[str, Any]]]:
        reference = Model.from_files(folder / "model.onnx", folder / "tokenizer.json", read_spec(folder), threads=1)
        expected = reference.embed(HELD_OUT)

        def judge(model: Model) -> tuple[float, dict[str, Any]]:
            return float(1 - np.mean(np.sum(expected * model.embed(HELD_OUT), axis=1))), {"texts": len(HELD_OUT)}

        return judge

    return make
