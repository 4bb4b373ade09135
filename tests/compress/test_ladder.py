"""``ladder: [2, 1]``: one student, a bundle of two depths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.compress import compress, plan
from edgekit.compress.stages import stages_of
from edgekit.distill import folder as folders
from edgekit.evaluate.predictors import TorchPredictor
from edgekit.recipe import load_recipe
from edgekit.runtimes import Ladder, Stream
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
