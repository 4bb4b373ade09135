"""Task clip through the whole pipeline: rendered pictures, a new teacher, a student, a bundle that proves itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgekit.bundle import open_bundle
from edgekit.compress import compress
from edgekit.recipe import load_recipe
from edgekit.report import read
from edgekit.runtimes.load import load
from edgekit.runtimes.verify import verify

TRAINING = {"epochs": 1, "min_steps": 1, "batch_size": 64, "learning_rate": 1e-3}
TOWERS = {
    "image": "mci",
    "image_size": 32,
    "image_widths": [32, 64],
    "image_depths": [1, 1],
    "embed_dim": 32,
    "context_length": 40,
    "vocab_size": 1024,
    "text_width": 32,
    "text_layers": 2,
    "text_heads": 2,
}
LOOSE = {"max_drop": 0.9, "min_gain": 0.0}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe: dict[str, Any] = {
        "name": "pairs",
        "task": "clip",
        "model": "new",
        "max_length": 40,
        "stride": 0,
        "data": {"train": "rendered", "max_examples": 1000},
        "teacher": TOWERS,
        "student": {"towers": {**TOWERS, "image_widths": [16, 32], "text_layers": 1}},
        "threads": 1,
        "bf16": False,
        "engines": ["onnxruntime"],
        "stages": {
            "teach": {**TRAINING, "max_examples": 128},
            "distill": {**TRAINING, "max_examples": 128, "gate": LOOSE},
            "prune": {
                "ffn": 0.3,
                "importance_examples": 16,
                "recovery": {**TRAINING, "max_examples": 64},
                "gate": LOOSE,
            },
            "quantize": {"calibration_examples": 16, "gate": LOOSE},
        },
    }
    path = tmp_path_factory.mktemp("clip") / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.mark.slow
def test_pictures_and_texts_go_through_the_same_stages(job: Path, tmp_path: Path) -> None:
    recipe = load_recipe(job, {"precision": "w8a8,fp32"})
    result = compress(recipe, tmp_path / "x.edge", cache_dir=tmp_path / "cache")
    assert [record.stage for record in result.stages] == ["teach", "distill", "prune", "export", "quantize", "pack"]
    assert all(record.metric == "recall_at_1" for record in result.stages)
    assert result.stages[1].size_bytes < result.stages[0].size_bytes
    manifest = open_bundle(result.bundle).manifest
    assert manifest.task.task == "clip" and manifest.task.pictures is not None
    made = {(model.engine, model.precision) for model in manifest.models}
    assert made == {("onnxruntime", "fp32"), ("onnxruntime", "w8a8")}
    assert verify(result.bundle).ok
    model = load(result.bundle)
    picture = np.zeros((48, 64, 3), np.uint8)
    found = model.zero_shot([picture], ["a red circle", "a blue square"])
    assert found.scores.shape == (1, 2)
    np.testing.assert_allclose(np.linalg.norm(model.embed_texts(["a red circle"]), axis=1), 1, atol=1e-5)
    assert read(result.bundle)["stages"]
