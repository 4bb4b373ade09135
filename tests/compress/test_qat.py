"""The recipe's option qat, from training to the packed INT8 file."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.bundle import open_bundle
from edgekit.compress import compress, plan
from edgekit.compress.stages import stages_of
from edgekit.recipe import load_recipe
from edgekit.runtimes.load import load
from edgekit.runtimes.verify import verify

QAT = {
    "stages.qat.enabled": True,
    "stages.qat.epochs": 1,
    "stages.qat.min_steps": 1,
    "stages.qat.batch_size": 32,
    "stages.qat.calibration_examples": 32,
    "stages.qat.gate.max_drop": 0.6,
    "engines": ["onnxruntime"],
}


@pytest.mark.slow
def test_a_bundle_of_a_model_that_was_trained_for_int8(small_job: Path, cache: Path, tmp_path: Path) -> None:
    recipe = load_recipe(small_job, QAT)
    found = compress(recipe, tmp_path / "x.edge", cache_dir=cache)
    names = [stage.stage for stage in found.stages]
    assert names[names.index("prune") + 1] == "qat" and names.index("qat") < names.index("export")
    records = {stage.stage: stage for stage in found.stages}
    assert records["qat"].kept and records["qat"].details["products"] == 5
    assert [row["name"] for row in records["quantize"].candidates] == ["qat"]
    assert records["quantize"].kept and records["quantize"].candidates[0]["chosen"]
    assert [model.precision for model in open_bundle(found.bundle).manifest.models] == ["w8a8"]
    assert verify(found.bundle).ok
    answers = load(found.bundle).classify(["a charming and clever film", "a dull, lifeless plot"])
    assert answers.labels == ["good", "bad"]
    assert all(row["cached"] for row in plan(recipe, cache))


def test_task_clip_has_the_same_stages_where_they_are_asked_for(clip_job: Path) -> None:
    plain = [stage.name for stage in stages_of(load_recipe(clip_job))]
    assert plain == ["teach", "distill", "prune", "export", "quantize"]
    asked = load_recipe(clip_job, {**QAT, "stages.vocabulary.enabled": True})
    assert [stage.name for stage in stages_of(asked)] == [
        *("teach", "vocabulary", "distill", "prune", "qat", "export", "quantize")
    ]


@pytest.mark.slow
def test_a_bundle_of_two_towers_that_were_trained_for_int8(clip_job: Path, clip_cache: Path, tmp_path: Path) -> None:
    loose = {"max_drop": 0.9, "min_gain": 0.0}
    words = {"stages.vocabulary.enabled": True, "stages.vocabulary.gate": loose}
    more = {"stages.qat.max_examples": 64}
    recipe = load_recipe(clip_job, {**QAT, **words, **more})
    found = compress(recipe, tmp_path / "x.edge", cache_dir=clip_cache)
    records = {stage.stage: stage for stage in found.stages}
    assert records["vocabulary"].details["pieces_after"] <= records["vocabulary"].details["pieces_before"]
    assert records["qat"].kept and records["qat"].details["towers"] == ["image", "text"]
    tried = [row["name"] for row in records["quantize"].candidates]
    assert records["quantize"].kept and set(tried) <= {"image/qat", "text/qat"} and tried
    assert [model.precision for model in open_bundle(found.bundle).manifest.models] == ["w8a8"]
    assert verify(found.bundle).ok
    assert load(found.bundle).embed_texts(["a large red circle", "\u65e5"]).shape == (2, 32)


def test_it_is_off_unless_asked_for(small_job: Path) -> None:
    assert not load_recipe(small_job).enabled("qat")
    assert not load_recipe("sentiment").enabled("qat")
