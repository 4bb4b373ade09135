"""Task clip through the whole pipeline: rendered pictures, a new teacher, a student, a bundle that proves itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.compress import compress
from edgekit.recipe import load_recipe
from edgekit.report import read
from edgekit.runtimes.load import load
from edgekit.runtimes.verify import verify


@pytest.mark.slow
def test_pictures_and_texts_go_through_the_same_stages(clip_job: Path, clip_cache: Path, tmp_path: Path) -> None:
    recipe = load_recipe(clip_job, {"precision": "w8a8,fp32"})
    result = compress(recipe, tmp_path / "x.edge", cache_dir=clip_cache)
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
