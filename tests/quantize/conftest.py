"""fp32 ONNX of two real layers, and a judge that holds outputs against it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.distill import folder as folders
from edgekit.distill.convert import import_model
from edgekit.export import export_onnx
from edgekit.export.graph import save
from edgekit.quantize.backend import Feed
from edgekit.quantize.embeddings import int8_embeddings
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes.artifact import read_spec
from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine
from edgekit.runtimes.model import Model
from tests.conftest import WORDS
from tests.quantize.ranks import MiniLm, minilm_to_rank
from tests.sharing import once

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

    def make(work: Path) -> None:
        source = import_model(str(tiny_model), "embed", max_length=64, stride=16)
        folders.save(source.encoder, source.tokenizer, work / "torch")
        export_onnx(work / "torch", work / "onnx", ExportConfig(), CALIBRATION[:2])

    return once(tmp_path_factory, "quantize", make) / "onnx"


@pytest.fixture(scope="session")
def to_rank(minilm: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> MiniLm:
    """All of MiniLM. Shared: do not write to its folders."""
    return minilm_to_rank(minilm, shared_data, tmp_path_factory)


def outputs(model: onnx.ModelProto, feeds: list[Feed]) -> np.ndarray:
    """What ``model`` gives in onnxruntime for each feed, as rows."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model.onnx")
        engine = OnnxRuntimeEngine(Path(folder) / "model.onnx", threads=1)
        found = [engine.run(feed["input_ids"], feed["attention_mask"]) for feed in feeds]
    return np.concatenate([rows.reshape(-1, rows.shape[-1]) for rows in found])


@pytest.fixture(scope="session")
def fp32(fp32_folder: Path) -> onnx.ModelProto:
    """Shared: do not change it."""
    return onnx.load(str(fp32_folder / "model.onnx"))


@pytest.fixture(scope="session")
def small(fp32: onnx.ModelProto) -> onnx.ModelProto:
    """With tables in INT8, as the stage itself goes to work: the rest is float."""
    model = onnx.ModelProto.FromString(fp32.SerializeToString())
    int8_embeddings(model)
    return model


@pytest.fixture(scope="session")
def feeds() -> list[Feed]:
    random = np.random.default_rng(0)
    found = []
    for length in (4, 9, 16, 31, 7, 12):
        ids = random.integers(1000, WORDS, (1, length), dtype=np.int64)
        ids[0, 0], ids[0, -1] = 101, 102
        found.append({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    return found


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
