"""Architectures that are not ours: through optimum's exporters into a file that passes the same gate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

from edgekit.distill.foreign import Foreign, import_foreign, is_foreign, open_torch
from edgekit.errors import MissingDependencyError, StageError
from edgekit.export import optimum
from edgekit.export.graph import Graph, weight_matmuls
from edgekit.quantize.backend import Source
from edgekit.quantize.onnxruntime import OnnxBackend
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact
from tests.needs import needs

needs("optimum", "optimum.exporters.onnx", extra="optimum")

TEXTS = ["a charming, funny film", "no", "the plot is thin and the jokes fall flat; " * 3]
SHAPE: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
CONFIGS: dict[str, Any] = {
    "mpnet": lambda: transformers.MPNetConfig(vocab_size=30522, pad_token_id=1, max_position_embeddings=80, **SHAPE),
    "albert": lambda: transformers.AlbertConfig(vocab_size=30522, embedding_size=32, num_labels=3, **SHAPE),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        vocab_size=30522,
        relative_attention=True,
        position_buckets=16,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        num_labels=3,
        **SHAPE,
    ),
}
AUTO = {
    "embed": transformers.AutoModel,
    "classify": transformers.AutoModelForSequenceClassification,
    "tag": transformers.AutoModelForTokenClassification,
}


def _source(kind: str, task: str, minilm: Path, folder: Path) -> Path:
    """A random model of architecture ``kind`` as transformers saves it, with MiniLM's tokenizer."""
    torch.manual_seed(0)
    AUTO[task].from_config(CONFIGS[kind]()).save_pretrained(folder)
    shutil.copyfile(minilm / "tokenizer.json", folder / "tokenizer.json")
    return folder


def _exported(kind: str, task: str, minilm: Path, work: Path) -> tuple[Foreign, Path]:
    model, tokenizer = import_foreign(_source(kind, task, minilm, work / "hub"), task, max_length=64, stride=16)
    model.save(tokenizer, work / "torch")
    report = optimum.export_optimum(work / "torch", work / "onnx", ExportConfig(), TEXTS)
    assert report.cosine_min >= 0.99999  # real texts, and every shape from 1 to 64 tokens with padding inside
    assert report.details["exporter"] == f"optimum ({kind})"
    return model, work / "onnx"


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("mpnet", "embed"),
        ("albert", "classify"),
        pytest.param("deberta-v2", "tag", marks=pytest.mark.slow),
        pytest.param("deberta-v2", "embed", marks=pytest.mark.slow),
    ],
)
def test_the_file_answers_like_the_model(kind: str, task: str, minilm: Path, tmp_path: Path) -> None:
    model, folder = _exported(kind, task, minilm, tmp_path)
    inputs = [value.name for value in onnx.load(str(folder / "model.onnx")).graph.input]
    assert inputs == ["input_ids", "attention_mask"]
    assert is_foreign(tmp_path / "torch")
    reloaded = open_torch(tmp_path / "torch")
    ids = torch.tensor([[101, 2023, 2003, 102], [101, 2053, 102, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.inference_mode():
        expected = model(ids, mask).numpy()
        np.testing.assert_allclose(reloaded(ids, mask).numpy(), expected, atol=1e-6)
    runtime = artifact.load(folder, threads=1)
    found = runtime.loaded.run(ids.numpy(), mask.numpy())
    keep = mask.numpy().astype(bool) if task == "tag" else slice(None)
    np.testing.assert_allclose(found[keep], expected[keep], atol=1e-5)
    if task == "embed":
        np.testing.assert_allclose(np.linalg.norm(runtime.embed(TEXTS), axis=1), 1, atol=1e-5)


def test_first_token_pooling_without_normalising_is_followed(minilm: Path, tmp_path: Path) -> None:
    hub = _source("mpnet", "embed", minilm, tmp_path / "hub")
    (hub / "1_Pooling").mkdir()
    (hub / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    model, tokenizer = import_foreign(hub, "embed", max_length=64, stride=16)
    assert (model.config.pooling, model.config.normalize) == ("cls", False)
    model.save(tokenizer, tmp_path / "torch")
    optimum.export_optimum(tmp_path / "torch", tmp_path / "onnx", ExportConfig(), TEXTS)
    with torch.inference_mode():
        ids = torch.tensor([[101, 2023, 102]])
        state = model.inner(input_ids=ids).last_hidden_state[:, 0].numpy()
    found = artifact.load(tmp_path / "onnx", threads=1).loaded.run(ids.numpy(), np.ones((1, 3), np.int64))
    np.testing.assert_allclose(found, state, atol=1e-5)


def test_shared_layers_stay_shared_in_every_form(minilm: Path, tmp_path: Path) -> None:
    """ALBERT runs one layer's weights in every layer: six matrices and the embeddings', however deep."""
    _, folder = _exported("albert", "classify", minilm, tmp_path)
    graph = Graph(onnx.load(str(folder / "model.onnx")))
    products = weight_matmuls(graph)
    assert len(products) == 1 + 2 * 6 + 2  # two layers; pooler and classifier
    assert len({node.input[1] for node in products.values()}) == 1 + 6 + 2
    ids = np.array([[101, 2023, 2003, 102]], np.int64)
    feeds = [{"input_ids": ids, "attention_mask": np.ones_like(ids)}]
    backend = OnnxBackend(Source(folder, folder, feeds, embeddings_int8=True, seed=0))
    whole = (folder / "model.onnx").stat().st_size
    for name, share in (("fp16", 0.55), ("weight-only", 0.35), ("dynamic", 0.35), ("static-a16", 0.35)):
        for label, make in backend.variants(name):
            out = tmp_path / label
            out.mkdir()
            assert backend.write(make(), out) < share * whole, label


def test_without_optimum_it_says_what_to_install(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = import_foreign(_source("mpnet", "embed", minilm, tmp_path / "hub"), "embed", max_length=64)
    monkeypatch.setattr(optimum, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install edgekit\[optimum\]"):
        optimum.trace(model)


def test_an_architecture_that_optimum_does_not_know_is_named(minilm: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.LukeConfig(
        vocab_size=30522, entity_vocab_size=10, entity_emb_size=8, max_position_embeddings=80, **SHAPE
    )
    transformers.LukeModel(config).save_pretrained(tmp_path / "hub")
    shutil.copyfile(minilm / "tokenizer.json", tmp_path / "hub" / "tokenizer.json")
    model, _ = import_foreign(tmp_path / "hub", "embed", max_length=64)
    with pytest.raises(StageError, match="optimum cannot export a luke model"):
        optimum.trace(model)
