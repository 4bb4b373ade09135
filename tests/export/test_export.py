"""ONNX export of real layers: parity, shapes, bytes, graph."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgekit.distill import folder as folders
from edgekit.distill.convert import import_model
from edgekit.errors import StageError
from edgekit.export import ExportReport, export_onnx
from edgekit.export.graph import Graph, weight_matmuls
from edgekit.export.onnx import trace
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine
from tests.conftest import WORDS

TEXTS = ["a charming, funny film", "no", "the plot is thin and the jokes fall flat " * 20]


@pytest.fixture(scope="module")
def exported(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    out = tmp_path_factory.mktemp("exported")
    return out, export_onnx(tiny_encoder, out, ExportConfig(), TEXTS)


def test_parity_is_measured_and_small(exported: tuple[Path, ExportReport]) -> None:
    _, report = exported
    assert report.max_abs < 1e-4
    assert report.cosine_min > 0.9999999
    assert report.texts == 3
    assert report.shapes == 27
    assert report.rows > 50


def test_the_artifact_is_complete(exported: tuple[Path, ExportReport], tiny_encoder: Path) -> None:
    out, report = exported
    assert sorted(p.name for p in out.iterdir()) == ["artifact.json", "model.onnx", "task.json", "tokenizer.json"]
    assert json.loads((out / "artifact.json").read_text())["precision"] == "fp32"
    task = json.loads((out / "task.json").read_text())
    assert (task["task"], task["max_length"], len(task["labels"])) == ("classify", 64, 3)
    assert report.size_bytes == (out / "model.onnx").stat().st_size
    assert (out / "tokenizer.json").read_bytes() == (tiny_encoder / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_every_length_runs_and_agrees_with_torch(
    exported: tuple[Path, ExportReport], tiny_encoder: Path, batch: int
) -> None:
    encoder, _ = folders.load(tiny_encoder)
    engine = OnnxRuntimeEngine(exported[0] / "model.onnx", threads=1)
    random = np.random.default_rng(batch)
    for length in range(1, 65, 1 if batch == 1 else 7):
        ids = random.integers(0, WORDS, (batch, length), dtype=np.int64)
        mask = (np.arange(length)[None] < random.integers(1, length + 1, (batch, 1))).astype(np.int64)
        with torch.inference_mode():
            expected = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        np.testing.assert_allclose(engine.run(ids, mask), expected, atol=1e-4)


def test_padding_does_not_change_an_answer(exported: tuple[Path, ExportReport]) -> None:
    engine = OnnxRuntimeEngine(exported[0] / "model.onnx", threads=1)
    ids = np.array([[101, 1037, 2143, 102]], np.int64)
    padded = np.pad(ids, ((0, 0), (0, 20)))
    mask = np.pad(np.ones_like(ids), ((0, 0), (0, 20)))
    np.testing.assert_allclose(engine.run(padded, mask), engine.run(ids, np.ones_like(ids)), atol=1e-5)


def test_two_exports_give_the_same_bytes(
    exported: tuple[Path, ExportReport], tiny_encoder: Path, tmp_path: Path
) -> None:
    export_onnx(tiny_encoder, tmp_path, ExportConfig(), TEXTS[:1])
    digests = {hashlib.sha256((p / "model.onnx").read_bytes()).hexdigest() for p in (tmp_path, exported[0])}
    assert len(digests) == 1


def test_the_graph_is_plain(exported: tuple[Path, ExportReport]) -> None:
    model = onnx.load(str(exported[0] / "model.onnx"))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
    assert kinds["Constant"] == kinds["Gemm"] == kinds["Concat"] == 0
    assert kinds["LayerNormalization"] == 5
    assert kinds["Softmax"] == 2
    assert kinds["Split"] == 2
    assert kinds["Sub"] == 1  # the mask is made once
    names = list(weight_matmuls(Graph(model)))
    assert names == [
        *(f"layers.{i}.{part}" for i in (0, 1) for part in ("attention.qkv", "attention.out", "up", "down")),
        "classifier",
    ]
    table = next(t for t in model.graph.initializer if t.name == "position.weight")
    assert list(table.dims) == [64, 384]  # no row that max_length cannot reach


def test_tracing_leaves_the_encoder_as_it_was(tiny_encoder: Path) -> None:
    encoder, _ = folders.load(tiny_encoder)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    trace(encoder)
    after = encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_bound_that_cannot_hold_is_an_error_that_says_what_was_measured(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"max-abs .* cosine .* expected at most 1e-12"):
        export_onnx(tiny_encoder, tmp_path, ExportConfig(max_abs=1e-12), TEXTS[:1])


@pytest.mark.parametrize("task", ["embed", "tag"])
def test_other_tasks_export_too(task: str, tiny_model: Path, tmp_path: Path) -> None:
    from edgekit.distill.encoder import Encoder, EncoderConfig

    source = import_model(str(tiny_model), "embed", max_length=32, stride=8)
    encoder = source.encoder
    if task == "tag":
        config = EncoderConfig(**{**encoder.config.to_diff_dict(), "task": "tag", "labels": ["O", "NAME"]})
        torch.manual_seed(0)
        encoder = Encoder(config)
        encoder.load_state_dict(source.encoder.state_dict(), strict=False)
    folders.save(encoder.eval(), source.tokenizer, tmp_path / "torch")
    report = export_onnx(tmp_path / "torch", tmp_path / "onnx", ExportConfig(), TEXTS)
    assert report.max_abs < 1e-4
    output = onnx.load(str(tmp_path / "onnx" / "model.onnx")).graph.output[0]
    assert output.name == ("embeddings" if task == "embed" else "logits")
    assert len(output.type.tensor_type.shape.dim) == (2 if task == "embed" else 3)


@pytest.mark.slow
def test_six_layers_of_minilm(minilm: Path, tmp_path: Path) -> None:
    source = import_model(str(minilm), "embed", max_length=128)
    folders.save(source.encoder, source.tokenizer, tmp_path / "torch")
    report = export_onnx(tmp_path / "torch", tmp_path / "onnx", ExportConfig(), TEXTS)
    assert report.max_abs < 1e-5
    assert report.cosine_min > 0.9999999
