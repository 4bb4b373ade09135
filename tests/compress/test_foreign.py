"""A model of an architecture that is not ours: exported, quantized, judged and packed as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from edgekit.bundle import open_bundle
from edgekit.compress import compress, plan, prepare
from edgekit.errors import MissingDependencyError
from edgekit.evaluate.predictors import TorchPredictor
from edgekit.recipe import load_recipe
from edgekit.runtimes.load import load
from edgekit.runtimes.verify import verify
from tests.needs import needs

needs("optimum", "optimum.exporters.onnx", extra="optimum")

TEXTS = ["a charming film", "the plot is really dull, they say", "no"]


@pytest.fixture(scope="module")
def mpnet(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random MPNet with a head of two classes, as transformers saves it. Shared: do not write to it."""
    torch.manual_seed(0)
    config = transformers.MPNetConfig(
        vocab_size=30522,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=70,
        initializer_range=0.3,
        num_labels=2,
    )
    folder = tmp_path_factory.mktemp("mpnet")
    transformers.MPNetForSequenceClassification(config).save_pretrained(folder)
    shutil.copyfile(minilm / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.mark.slow
def test_it_goes_through_the_same_gates_into_every_engine(small_job: Path, mpnet: Path, tmp_path: Path) -> None:
    engines = "onnxruntime,openvino,litert"
    asked = {"engines": engines, "precision": "fp32,w8a8", "lengths": "16", "max_length": 32}
    recipe = load_recipe(small_job, {"model": str(mpnet), **asked})
    result = compress(recipe, tmp_path / "x.edge", cache_dir=tmp_path / "cache")
    stages = {record.stage: record for record in result.stages}
    assert not {"vocabulary", "distill", "prune"} & set(stages)
    assert "left out: vocabulary" in stages["teach"].details["architecture"]
    assert stages["export"].details["exporter"] == "optimum (mpnet)"
    manifest = open_bundle(result.bundle).manifest
    made = {(model.engine, model.precision) for model in manifest.models}
    assert made == {(engine, precision) for engine in engines.split(",") for precision in ("fp32", "w8a8")}
    assert verify(result.bundle).ok
    expected = TorchPredictor(Path(result.teacher["folder"])).outputs(TEXTS)
    for model in manifest.models:
        if model.precision == "fp32":
            np.testing.assert_allclose(load(result.bundle, file=model.path).logits(TEXTS), expected, atol=1e-5)


def test_its_plan_names_what_runs_and_trains_nothing(small_job: Path, mpnet: Path, tmp_path: Path) -> None:
    recipe = load_recipe(small_job, {"model": str(mpnet), "engines": "onnxruntime", "max_length": 32})
    rows = plan(recipe, cache_dir=tmp_path)
    assert [row["stage"] for row in rows] == ["teach", "export", "quantize"]
    assert rows[0]["basis"] == "estimate: nothing is trained"


def test_without_optimum_nothing_is_begun(
    small_job: Path, mpnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "find_spec", lambda name: None if name.startswith("optimum") else object())
    prepare.require_exporter(load_recipe(small_job))
    with pytest.raises(MissingDependencyError, match=r"type mpnet.*pip install 'edgekit\[optimum\]'"):
        prepare.require_exporter(load_recipe(small_job, {"model": str(mpnet), "max_length": 32}))
