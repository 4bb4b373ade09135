"""TFLite export of real layers: parity in every bucket, bytes, what cannot be converted."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.distill import folder as folders
from edgekit.distill.convert import import_model
from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.errors import MissingDependencyError, StageError
from edgekit.export import tflite
from edgekit.export.lengths import marker
from edgekit.export.litert import convert, export_litert
from edgekit.export.tflite_form import TfliteForm
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes.engines.litert import LiteRtEngine
from tests.conftest import WORDS

TEXTS = ["a charming, funny film", "no", "the plot is thin and the jokes fall flat " * 20]


def _random(seed: int, **config: object) -> Encoder:
    """A small encoder whose layers differ in shape, with norms and biases that are not their initial ones."""
    torch.manual_seed(seed)
    shape = {"vocab_size": 99, "hidden_size": 24, "head_dim": 8, "heads": [3, 1], "ffn": [40, 17], "max_tokens": 20}
    encoder = Encoder(EncoderConfig(**{**shape, "max_positions": 32, **config}))
    for name, value in encoder.named_parameters():
        if "norm" in name or "bias" in name:
            value.data += torch.randn_like(value) * 0.3
    return encoder.eval()


@pytest.mark.parametrize(
    "config",
    [
        {"task": "embed"},
        {"task": "embed", "pooling": "cls", "normalize": False, "activation": "gelu_new"},
        {"task": "classify", "labels": ["a", "b"], "pooling": "cls", "head_activation": "tanh"},
        {"task": "classify", "labels": ["a", "b"], "activation": "relu"},
        {"task": "tag", "labels": ["O", "NAME"], "head_activation": "gelu"},
        {"task": "embed", "head_activation": "tanh"},
    ],
)
def test_the_form_for_tflite_is_the_same_function(config: dict[str, object]) -> None:
    encoder = _random(3, **config)
    ids, mask = torch.randint(0, 99, (1, 13)), torch.ones((1, 13), dtype=torch.int64)
    mask[0, 9:] = 0
    with torch.inference_mode():
        expected = encoder(ids, mask)
        found = TfliteForm(encoder)(ids.int(), mask.int())
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_the_artifact_is_complete(tiny_litert: Path, tiny_encoder: Path) -> None:
    assert sorted(p.name for p in tiny_litert.iterdir()) == [
        "artifact.json",
        "model.tflite",
        "task.json",
        "tokenizer.json",
    ]
    assert json.loads((tiny_litert / "artifact.json").read_text()) == {"engine": "litert", "precision": "fp32"}
    assert json.loads((tiny_litert / "task.json").read_text())["max_length"] == 64
    assert (tiny_litert / "tokenizer.json").read_bytes() == (tiny_encoder / "tokenizer.json").read_bytes()


def test_every_length_of_every_bucket_agrees_with_torch(tiny_litert: Path, tiny_encoder: Path) -> None:
    encoder, _ = folders.load(tiny_encoder)
    engine = LiteRtEngine(tiny_litert / "model.tflite", threads=1)
    random = np.random.default_rng(0)
    for length in range(1, 65):
        ids = random.integers(0, WORDS, (2, length), dtype=np.int64)
        mask = (np.arange(length)[None] < np.array([[length], [random.integers(1, length + 1)]])).astype(np.int64)
        with torch.inference_mode():
            expected = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        found = engine.run(ids, mask)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        cosine = np.sum(found * expected, 1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() > 0.99999


def test_lengths_share_their_weights_and_are_named_after_modules(tiny_litert: Path, tiny_encoder: Path) -> None:
    path = tiny_litert / "model.tflite"
    parameters = sum(value.numel() for value in folders.load(tiny_encoder)[0].parameters())
    assert path.stat().st_size < 4 * parameters + 100_000
    model = tflite.read(path)
    assert [s.signatureKey for s in model.signatureDefs] == [b"tokens_16", b"tokens_32", b"tokens_64"]
    for graph, length in zip(model.subgraphs, (16, 32, 64), strict=True):
        names = [tensor.name.decode() for tensor in graph.tensors]
        assert len(set(names)) == len(names)
        for part in ("word", "layers.1.attention.qkv", "layers.0.down", "classifier"):
            assert f"{length}/{part}" in names
            assert f"{length}/{part}.weight" in names
    kinds = Counter(tflite.kind(model, operator) for operator in model.subgraphs[0].operators)
    assert kinds["FULLY_CONNECTED"] == 9
    assert kinds["GELU"] == kinds["SOFTMAX"] == 2  # as one operator each, not taken apart


def test_a_conversion_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "python"
    child.write_text("#!/bin/sh\necho progress\necho the last line of it >&2\nexit 3\n")
    child.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(child))
    with pytest.raises(StageError, match="could not convert the model; found the last line of it"):
        convert(_random(0), [20], tmp_path / "model.tflite")


@pytest.mark.slow
def test_a_missing_converter_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "litert_torch.py").write_text("raise ImportError('gone')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"litert-torch.*gone.*pip install edgekit\[compress\]"):
        convert(_random(0), [20], tmp_path / "model.tflite")


def test_the_marker_is_no_size_of_the_model() -> None:
    assert marker({1, 2, 3}) == 61
    assert marker({61, 67, 128}) == 71


@pytest.mark.slow
def test_two_exports_give_the_same_bytes_and_print_nothing(
    tiny_litert: Path, tiny_encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = export_litert(tiny_encoder, tmp_path, ExportConfig(), [32, 16, 64, 500], TEXTS)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert (tmp_path / "model.tflite").read_bytes() == (tiny_litert / "model.tflite").read_bytes()
    assert report.engine == "litert"
    assert report.details["lengths"] == [16, 32, 64]  # no window is longer
    assert report.max_abs < 1e-4
    assert report.cosine_min > 0.99999
    assert report.rows > 50


@pytest.mark.slow
@pytest.mark.parametrize("task", ["embed", "tag"])
def test_other_tasks_export_too(task: str, tiny_model: Path, tmp_path: Path) -> None:
    source = import_model(str(tiny_model), "embed", max_length=32, stride=8)
    encoder = source.encoder
    if task == "tag":
        config = EncoderConfig(**{**encoder.config.to_diff_dict(), "task": "tag", "labels": ["O", "NAME"]})
        torch.manual_seed(0)
        encoder = Encoder(config)
        encoder.load_state_dict(source.encoder.state_dict(), strict=False)
    folders.save(encoder.eval(), source.tokenizer, tmp_path / "torch")
    report = export_litert(tmp_path / "torch", tmp_path / "out", ExportConfig(), [8], TEXTS, engine="tflite-runtime")
    assert report.cosine_min > 0.99999
    assert report.engine == "tflite-runtime"
    engine = LiteRtEngine(tmp_path / "out" / "model.tflite", threads=1)
    ids = np.array([[101, 1037, 2143, 102, 7, 8, 9, 10, 11, 12]])
    found = engine.run(ids, np.ones_like(ids))
    assert found.shape == ((1, 384) if task == "embed" else (1, 10, 2))
