"""Teacher, student and pruning of dual encoders on rendered pictures: small, real, seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.data import PictureTextSet, load_parts
from edgekit.data.pictures import PictureSplits
from edgekit.distill import families
from edgekit.distill.clip.dual import is_dual
from edgekit.distill.clip.folder import embed, load, reader
from edgekit.distill.clip.heads import RUNS
from edgekit.distill.clip.pairs import make_pairs
from edgekit.errors import ModelError, RecipeError
from edgekit.evaluate import score
from edgekit.evaluate.open import open_predictor
from edgekit.progress import Silent
from edgekit.recipe import Recipe, load_recipe
from tests.small_towers import TOWERS

TRAINING = {"epochs": 2, "min_steps": 1, "batch_size": 32, "learning_rate": 1e-3}
SMALL = {**TOWERS, "image_widths": [16, 32], "text_layers": 1}
RAW: dict[str, Any] = {
    "name": "pairs",
    "task": "clip",
    "model": "new",
    "max_length": 32,
    "stride": 0,
    "data": {"train": "rendered", "max_examples": 1000},
    "teacher": TOWERS,
    "student": {"towers": SMALL},
    "threads": 1,
    "bf16": False,
    "stages": {
        "teach": TRAINING,
        "distill": TRAINING,
        "prune": {"ffn": 0.3, "heads": 0.5, "importance_examples": 16, "recovery": {**TRAINING, "epochs": 1}},
    },
}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.model_validate(RAW)


@pytest.fixture(scope="module")
def splits(recipe: Recipe) -> PictureSplits[PictureTextSet]:
    found = load_parts(recipe.data, "clip", 0, Silent())
    assert isinstance(found, PictureSplits)
    train = found.train.take(range(192))
    return replace(found, train=train, validation=found.validation.take(range(40)), test=found.test.take(range(40)))


@pytest.fixture(scope="module")
def teacher(recipe: Recipe, splits: PictureSplits[PictureTextSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("teacher")
    report = families.teach(recipe, splits, work / "model", work / "work", Silent())
    losses = [epoch["loss"] for epoch in report["history"]]
    assert losses[-1] < losses[0], "it learns"
    assert report["parameters"] == sum(p.numel() for p in load(work / "model")[0].parameters())
    return work / "model"


def test_a_new_teacher_reads_its_captions(teacher: Path, splits: PictureSplits[PictureTextSet]) -> None:
    assert is_dual(teacher)
    model, tokenizer = load(teacher)
    tokens = tokenizer.encode(splits.test.captions[0]).tokens
    assert tokens[0] == "<|startoftext|>" and tokens[-1] == "<|endoftext|>"
    assert model.config.text.context_length == 40 and model.config.image.image_size == 32


def test_the_predictor_answers_as_the_towers_do_in_training(
    teacher: Path, splits: PictureSplits[PictureTextSet]
) -> None:
    predictor = open_predictor(teacher)
    images, texts = predictor.predict(splits.test)
    assert images.shape == (40, 32) and texts.shape == (len(splits.test.captions), 32)
    model, tokenizer = load(teacher)
    pairs = make_pairs(splits.test, model.config, reader(tokenizer, model.config))
    for ours, theirs in zip((images, texts), embed(model, pairs), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)  # branches merged, and not
    picture, caption = splits.test.spread(1)[0]
    alone = predictor.answer((picture, caption))
    np.testing.assert_allclose(alone[0][0], images[0], atol=2e-5)
    np.testing.assert_allclose(alone[1][0], texts[0], atol=2e-5)
    assert predictor.size_bytes > 100_000


@pytest.mark.slow
def test_a_student_follows_and_is_smaller(
    recipe: Recipe, splits: PictureSplits[PictureTextSet], teacher: Path, tmp_path: Path
) -> None:
    report = families.distil(recipe, splits, teacher, tmp_path / "student", tmp_path / "work", Silent())
    assert report["times_fewer_parameters"] > 1.5
    assert report["losses"] == {"contrastive": 0.25, "relational": 1.0, "feature_cosine": 1.0}
    losses = [epoch["loss"] for epoch in report["history"]]
    assert losses[-1] < losses[0]
    again = families.distil(recipe, splits, teacher, tmp_path / "again", tmp_path / "work2", Silent())
    assert again["history"] == report["history"]
    same = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("student", "again")]
    assert same[0] == same[1], "the same seed gives the same bytes"
    found = score("clip", open_predictor(tmp_path / "student").predict(splits.test), splits.test)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.slow
def test_towers_follow_their_teachers_own_apart(
    recipe: Recipe, splits: PictureSplits[PictureTextSet], teacher: Path, tmp_path: Path
) -> None:
    settings = {**TRAINING, "epochs": 3, "train": "text", "pair_losses": {"feature_cosine": 1}}
    asked = {**RAW, "student": {"towers": {**TOWERS, "text_layers": 1}}, "stages": {"distill": settings}}
    report = families.distil(
        Recipe.model_validate(asked), splits, teacher, tmp_path / "model", tmp_path / "work", Silent()
    )
    assert report["losses"] == {"feature_cosine": 1.0} and report["examples"] == len(splits.train.captions)
    assert report["history"][-1]["loss"] < report["history"][0]["loss"]
    before, after = load(teacher)[0], load(tmp_path / "model")[0]
    ours, theirs = after.image.state_dict(), before.image.state_dict()
    changed = {name for name, value in theirs.items() if not torch.equal(value, ours[name])}
    assert changed <= {"projection.weight"} and report["probe"]["validation_cosine"] > 0.95
    for losses, store, match in (({"feature_cosine": 0}, None, "pair_losses"), ({}, "x", "reinforced")):
        wrong = {**settings, "pair_losses": losses, "reinforced": store}
        impossible = Recipe.model_validate({**asked, "stages": {"distill": wrong}})
        with pytest.raises(RecipeError, match=match):
            families.distil(impossible, splits, teacher, tmp_path / "no", tmp_path / "w", Silent())


@pytest.mark.slow
def test_projections_are_tuned_last_where_that_pays(
    recipe: Recipe, splits: PictureSplits[PictureTextSet], teacher: Path, tmp_path: Path
) -> None:
    follows = {**TRAINING, "train": "text", "pair_losses": {"feature_cosine": 1}}
    models, reports = [], []
    for name, learns in (("plain", {}), ("pays", {"learning_rate": 0.003}), ("no", {"learning_rate": 1e-12})):
        stages = {"distill": {**follows, "heads": bool(learns)}, "teach": {**TRAINING, **learns}}
        asked = {**RAW, "student": {"towers": {**TOWERS, "text_layers": 1}}, "stages": stages}
        out = tmp_path / name
        reports.append(
            families.distil(Recipe.model_validate(asked), splits, teacher, out, tmp_path / f"w-{name}", Silent())
        )
        models.append(load(out)[0].state_dict())
    plain, pays, no = models
    changed = {name for name, value in plain.items() if not torch.equal(value, pays[name])}
    tuned = reports[1]["heads"]
    assert tuned["losses"] == {"contrastive": 0.25, "relational": 1.0}
    assert len({str(run["history"]) for run in tuned["runs"]}) == RUNS  # each with a seed of its own
    assert tuned["kept"] is (tuned["after"] > tuned["before"])
    assert changed == ({"image.projection.weight", "text.projection.weight", "logit_scale"} if tuned["kept"] else set())
    assert not reports[2]["heads"]["kept"] and all(torch.equal(value, no[name]) for name, value in plain.items())


@pytest.mark.slow
def test_pruning_makes_it_smaller_and_keeps_its_temperature(
    recipe: Recipe, splits: PictureSplits[PictureTextSet], teacher: Path, tmp_path: Path
) -> None:
    none = {**RAW["stages"], "prune": {**RAW["stages"]["prune"], "recovery": {"epochs": 0, "min_steps": 0}}}
    plain = Recipe.model_validate({**RAW, "stages": none})
    report = families.prune(plain, splits, teacher, teacher, tmp_path / "cut", tmp_path / "work", Silent())
    before, after = load(teacher)[0], load(tmp_path / "cut")[0]
    assert report["after"]["parameters"] < 0.9 * report["before"]["parameters"]
    assert sum(after.config.text.heads) < sum(before.config.text.heads)
    torch.testing.assert_close(after.logit_scale, before.logit_scale)
    recovered = families.prune(recipe, splits, teacher, teacher, tmp_path / "rec", tmp_path / "work2", Silent())
    assert recovered["epochs"] == 1 and recovered["after"]["parameters"] == report["after"]["parameters"]


def test_a_model_that_is_given_is_taken_as_it_is(
    recipe: Recipe, splits: PictureSplits[PictureTextSet], teacher: Path, tmp_path: Path
) -> None:
    given = recipe.model_copy(update={"model": str(teacher)})
    report = families.teach(given, splits, tmp_path / "model", tmp_path, Silent())
    assert report["trained"].startswith("nothing")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (teacher / "model.safetensors").read_bytes()
    wrong = given.model_copy(update={"model_sha256": "0" * 64})
    with pytest.raises(ModelError, match="sha256"):
        families.teach(wrong, splits, tmp_path / "other", tmp_path, Silent())


def test_what_a_recipe_cannot_ask_for(recipe: Recipe) -> None:
    assert families.left_out(recipe) == []
    for towers, message in (
        ({"image_widths": [32, 48]}, "multiple of the one before"),
        ({"image_depths": [1]}, "as many image_depths"),
        ({"text_heads": 3}, "divides"),
    ):
        with pytest.raises(ValueError, match=message):
            Recipe.model_validate({**RAW, "teacher": {**TOWERS, **towers}})
    with pytest.raises(ValueError, match="goes with train: text"):
        Recipe.model_validate({**RAW, "stages": {"distill": {**TRAINING, "heads": True}}})


def test_task_clip_alone_is_its_own_default() -> None:
    found = load_recipe(None, {"task": "clip"})
    assert (found.name, found.model, found.data.train[0].path) == ("clip", "new", "rendered")
