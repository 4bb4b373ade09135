"""``ladder: [2, 1]``: one student, a bundle of two depths; ``[100, 60, 40]``: of three image towers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.compress import compress, plan
from edgekit.compress.stages import stages_of
from edgekit.data import load_parts
from edgekit.distill import folder as folders
from edgekit.evaluate.predictors import TorchPredictor
from edgekit.progress import Silent
from edgekit.recipe import load_recipe
from edgekit.runtimes import Ladder, Stream, ZeroShotClassifier
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.index import Index
from edgekit.runtimes.load import load
from edgekit.runtimes.model import Model
from edgekit.runtimes.verify import verify

TEXTS = ["a charming and clever film", "a dull, lifeless plot", "the ending is really warm, they say"]
LADDER: dict[str, Any] = {
    "ladder": [2, 1],
    "student.layers": None,
    "precision": "fp32,w8a8",
    "stages.distill.layer_drop": 0.1,
    "stages.truncate.gate.max_drop": 0.6,
}


def test_its_stages(small_job: Path) -> None:
    stages = {stage.name: stage for stage in stages_of(load_recipe(small_job, LADDER))}
    names = list(stages)
    cut = ["truncate-1", "truncate-2", "export", "quantize", "export-1", "quantize-1"]
    assert names[names.index("prune") + 1 :] == cut
    assert stages["distill"].required and stages["truncate-2"].required and not stages["truncate-1"].required
    assert stages["quantize-1"].start == "export-1" and stages["export-1"].start == "truncate-1"
    assert "truncate-2" not in [stage.name for stage in stages_of(load_recipe(small_job))]


@pytest.mark.slow
def test_a_bundle_that_is_a_ladder(small_job: Path, cache: Path, tmp_path: Path) -> None:
    recipe = load_recipe(small_job, LADDER)
    found = compress(recipe, tmp_path / "x.edge", cache_dir=cache)
    records = {stage.stage: stage for stage in found.stages}
    assert all(records[name].kept for name in ("truncate-1", "truncate-2", "export-1", "quantize-1")), records
    assert records["truncate-1"].size_bytes < records["truncate-2"].size_bytes
    manifest = open_bundle(found.bundle).manifest
    assert {model.path for model in manifest.models} == {"models/fp32.onnx", "models/w8a8.onnx"}
    assert [(rung.name, rung.layers, len(rung.models)) for rung in manifest.ladder] == [("2", 2, 0), ("1", 1, 2)]
    assert {model.path for model in manifest.ladder[1].models} == {"models/1/fp32.onnx", "models/1/w8a8.onnx"}
    for rung in manifest.ladder:
        assert rung.low <= rung.value <= rung.high and rung.n == 48 and rung.p50_ms > 0 and rung.size_bytes > 0
    assert len(manifest.profiles) == 4
    outputs = [check.name for check in verify(found.bundle, 1).checks if check.name.startswith("outputs")]
    assert len(outputs) == 4 and verify(found.bundle, 1).ok

    for name, file in (("truncate-2", "models/fp32.onnx"), ("truncate-1", "models/1/fp32.onnx")):
        torch = TorchPredictor(_folder(cache, records[name].details["layers"]))
        model = load(found.bundle, threads=1, file=file)
        assert isinstance(model, Model)
        theirs = np.stack([np.ravel(torch.answer(text)) for text in TEXTS])
        np.testing.assert_allclose(np.stack([np.ravel(model.logits(text)) for text in TEXTS]), theirs, atol=1e-3)
    ladder = Ladder.from_bundle(found.bundle, threads=1)
    with Stream(ladder) as stream:
        assert stream.run(TEXTS[0]).rung == "2"
        ladder.govern(1)
        assert stream.run(TEXTS[0]).rung == "1"
    page = found.report.read_text("utf-8")
    assert ">Ladder</h2>" in page and "Accuracy on the test part against p50 of each rung." in page
    assert all(row["cached"] for row in plan(recipe, cache))


def _folder(cache: Path, layers: int) -> Path:
    """The rung of ``layers`` in the cache: what was cut last."""
    cut = [path.parent for path in cache.glob("stages/*/model/config.json")]
    mine = []
    for folder in cut:
        details = (folder.parent / "details.json").read_text("utf-8")
        if '"ladder"' in details and f'"layers": {layers}' in details:
            mine.append(folder)
    assert len(mine) == 1 and folders.load(mine[0])[0].config.layers == layers
    return mine[0]


CLIP_LADDER: dict[str, Any] = {
    "ladder": [100, 60, 10],
    "precision": "fp32,w8a8",
    "prompts": {"labels": ["a red circle", "a blue square"], "templates": ["a picture of {}"]},
    "stages.truncate": {
        "importance_examples": 32,
        "recovery": {"epochs": 1, "min_steps": 1, "batch_size": 32, "max_examples": 64},
        "gate": {"max_drop": 0.9, "min_gain": 0.0},
    },
}


def test_the_stages_of_a_ladder_of_towers(clip_job: Path) -> None:
    """The student is the first rung as it is; nothing that was trained is asked for anew when rungs are added."""
    recipe = load_recipe(clip_job, CLIP_LADDER)
    stages = {stage.name: stage for stage in stages_of(recipe)}
    names = list(stages)
    cut = ["truncate-10", "truncate-60", "export", "quantize", "export-60", "quantize-60", "export-10", "quantize-10"]
    assert names[names.index("prune") + 1 :][: len(cut)] == cut
    assert stages["quantize-60"].beside == "quantize" and stages["quantize"].beside == ""
    assert not stages["truncate-60"].required and not stages["distill"].required
    fewer = {stage.name: stage for stage in stages_of(load_recipe(clip_job, {**CLIP_LADDER, "ladder": [100, 60]}))}
    assert all(fewer[name].part == stages[name].part for name in fewer)


@pytest.mark.slow
def test_a_bundle_that_is_a_ladder_of_towers(clip_job: Path, clip_cache: Path, tmp_path: Path) -> None:
    recipe = load_recipe(clip_job, CLIP_LADDER)
    found = compress(recipe, tmp_path / "x.edge", cache_dir=clip_cache)
    (missed,) = [stage for stage in found.stages if stage.stage == "truncate-10"]
    assert not missed.kept and "no rung of 10 % of the channels" in missed.reason, "each block keeps 16 of 48 or 96"
    near = {stage.stage: stage.details.get("cosine_with_first") for stage in found.stages}
    assert near["truncate-60"] > 0.9
    manifest = open_bundle(found.bundle).manifest
    assert verify(found.bundle, 1).ok
    assert [(rung.name, rung.channels, rung.layers) for rung in manifest.ladder] == [
        ("100", 100, None),
        ("60", 60, None),
    ]
    for rung in manifest.ladder:
        assert rung.metric == "recall_at_1" and rung.low <= rung.value <= rung.high and rung.p50_ms > 0
    sizes = {entry.path: entry.bytes for entry in manifest.files}
    images = [f"models/{rung}fp32.image.onnx" for rung in ("", "60/")]
    assert sizes[images[0]] > sizes[images[1]]
    texts = [path for path in sizes if ".text." in path]
    assert sorted(texts) == ["models/fp32.text.onnx", "models/w8a8.text.onnx"], "no rung has a text tower of its own"
    assert len(manifest.golden["tolerances"]) == len({(t["file"], t["isa"]) for t in manifest.golden["tolerances"]})

    loaded = [load(found.bundle, threads=1, file=file) for file in images]
    models = [model for model in loaded if isinstance(model, DualModel)]
    pictures = [picture for picture, _ in load_parts(recipe.data, "clip", 0, Silent()).test.spread(24)]
    rows = [model.embed_images(pictures) for model in models]
    cosines = [float((rows[0] * other).sum(1).mean()) for other in rows[1:]]
    assert min(cosines) > 0.9, f"one space: {cosines}"
    index = Index(rows[0].shape[1], models[0].digest)
    index.add([str(i) for i in range(len(pictures))], rows[0])
    for model in models[1:]:
        assert models[0].search(TEXTS[0], index, 5) == model.search(TEXTS[0], index, 5), "one text tower"
        hits = [model.search(picture, index, 5) for picture in pictures]
        assert np.mean([str(i) in [hit.name for hit in five] for i, five in enumerate(hits)]) > 0.7

    ladder = Ladder.from_bundle(found.bundle, threads=1, adapt=ZeroShotClassifier, down_after=1)
    with Stream(ladder, deadline_ms=1e5) as stream:
        result = stream.run(pictures[0])
        assert result.rung == "100" and result.get()[0][0].name in ("a red circle", "a blue square")
        ladder.settle(True, 1.0, 0.1)
        assert stream.run(pictures[0]).rung == "60"
    page = found.report.read_text("utf-8")
    assert ">Ladder</h2>" in page and "hidden channels, picture" in page
    assert all(row["cached"] for row in plan(recipe, clip_cache) if not row["stage"].endswith("-10"))
