"""Task clip through the whole pipeline: rendered pictures, a new teacher, a student, a bundle that proves itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.compress import compress
from edgekit.errors import InputError
from edgekit.recipe import load_recipe
from edgekit.report import markdown, read
from edgekit.runtimes.load import load
from edgekit.runtimes.prompts import NAME
from edgekit.runtimes.verify import verify

LABELS = ["a red circle", "a blue square", "a green triangle"]
TEMPLATES = ["a picture of {}", "{} alone", "one {}."]
PICTURES = [np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8) for i in range(4)]
PROMPTS = {"labels": LABELS, "templates": TEMPLATES}


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


@pytest.mark.slow
def test_a_bundle_of_fixed_labels(clip_job: Path, clip_cache: Path, tmp_path: Path) -> None:
    """The bank is what the text tower says, and the text tower may stay at home."""
    recipe = {"precision": "w8a8,fp32", "prompts": PROMPTS}
    kept = compress(load_recipe(clip_job, recipe), tmp_path / "kept.edge", cache_dir=clip_cache)
    recipe["prompts"] = {**PROMPTS, "text_tower": "leave_out"}
    alone = compress(load_recipe(clip_job, recipe), tmp_path / "alone.edge", cache_dir=clip_cache)

    whole = load(kept.bundle, file="models/fp32.image.onnx")
    rows = whole.embed_texts([template.replace("{}", label) for label in LABELS for template in TEMPLATES])
    means = rows.reshape(len(LABELS), len(TEMPLATES), -1).mean(1)
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    for path in (kept.bundle, alone.bundle):
        report = verify(path)
        assert report.ok, report
        (told,) = [check.detail for check in report.checks if check.name == "prompt bank"]
        assert told.startswith("3 labels of 32 numbers, 3 templates")
        assert ("no text tower" in told) == (path == alone.bundle)
        for file in ("models/fp32.image.onnx", "models/w8a8.image.onnx"):
            model = load(path, file=file)
            np.testing.assert_allclose(model.bank.embeddings, expected, atol=1e-5)
            assert model.zero_shot(PICTURES, top_k=1)[0][0].name in LABELS
    found = load(alone.bundle, file="models/fp32.image.onnx").zero_shot(PICTURES)
    np.testing.assert_allclose(found.cosines, whole.zero_shot(PICTURES, LABELS, TEMPLATES).cosines, atol=1e-5)

    files = {entry.path for entry in open_bundle(alone.bundle).manifest.files}
    assert NAME in files and not any("text" in path or "tokenizer" in path for path in files)
    assert all(set(model.towers) == {"image"} for model in open_bundle(alone.bundle).manifest.models)
    assert alone.stages[-1].size_bytes < kept.stages[-1].size_bytes
    assert "pictures alone" in alone.stages[-1].reason and "pictures alone" not in kept.stages[-1].reason
    with pytest.raises(InputError, match=r"a prompt bank of 3.*Pack the bundle with its text tower"):
        load(alone.bundle).embed_texts("a yellow star")
    assert load(kept.bundle).embed_texts("a yellow star").shape == (1, 32)
    assert read(alone.bundle)["prompts"] == {"labels": LABELS, "templates": TEMPLATES, "text_tower": False}
    assert "No text tower is packed: no other text" in markdown([read(alone.bundle)])
