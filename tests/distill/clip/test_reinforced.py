"""Reinforced sets: what live teachers write, a student reads back as if they stood beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekit.data import PictureTextSet
from edgekit.data.augment import augment
from edgekit.data.captions import read_captions
from edgekit.data.pictures import PictureSplits
from edgekit.data.store import ReinforcedStore, ReinforceSettings
from edgekit.distill import families
from edgekit.distill.clip.folder import load, reader
from edgekit.distill.clip.objective import PairObjective
from edgekit.distill.clip.pairs import make_pairs
from edgekit.distill.clip.reinforce import reinforce, training_part
from edgekit.distill.clip.reinforced import ReinforcedPairs, StoreTargets
from edgekit.distill.clip.teachers import open_teacher
from edgekit.errors import DataError, StageError
from edgekit.progress import Silent
from edgekit.recipe import Recipe
from edgekit.recipe.training import PairLosses
from tests.export import duals

SETTINGS = ReinforceSettings(augmentations=3, dtype="float32", shard=4)
ALL = PairLosses(contrastive=0.0, relational=1.0, affinity=0.0, feature_cosine=1.0, feature_mse=0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two teachers and captions.tsv of ten pictures, some with two captions. Shared: write elsewhere."""
    root = tmp_path_factory.mktemp("reinforce")
    duals.saved(root / "one", "vit")
    duals.saved(root / "two", "lite")
    lines = ["image\tcaption"]
    for number, (picture, caption) in enumerate(duals.examples(10)):
        Image.fromarray(picture).save(root / f"{number}.png")
        lines.append(f"{number}.png\t{caption}")
        if number % 3 == 0:
            lines.append(f"{number}.png\ta {caption} again")
    (root / "captions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def data(place: Path) -> PictureTextSet:
    return read_captions(place / "captions.tsv")


@pytest.fixture(scope="module")
def store(place: Path) -> ReinforcedStore:
    return reinforce([str(place / "one")], str(place / "captions.tsv"), place / "store", SETTINGS)


def pairs_of(folder: Path, data: PictureTextSet, store: ReinforcedStore, **more) -> ReinforcedPairs:
    model, words = load(folder)
    return ReinforcedPairs(data, store, model.config, reader(words, model.config), **more)


def test_a_student_that_is_the_teacher_has_nothing_to_learn(
    place: Path, data: PictureTextSet, store: ReinforcedStore
) -> None:
    model, _ = load(place / "one")
    pairs, targets = pairs_of(place / "one", data, store), StoreTargets(data, store)
    for batch in map(pairs.collate, pairs.epoch(4, 0, 0)):
        assert PairObjective(model, ALL, targets)(batch).item() == pytest.approx(0, abs=1e-5)
    other = PairObjective(load(place / "two")[0], ALL, targets)
    assert other(pairs.collate(pairs.epoch(4, 0, 0)[0])).item() > 0.01


def test_an_epoch_shows_each_picture_once_as_an_augmentation_drawn_anew(
    place: Path, data: PictureTextSet, store: ReinforcedStore
) -> None:
    pairs = pairs_of(place / "one", data, store)
    drawn = []
    for number in range(3):
        batches = [pairs.collate(index) for index in pairs.epoch(4, 7, number)]
        assert sorted(np.concatenate([one.pictures for one in batches])) == list(range(10))
        assert all((data.picture_of[one.captions] == one.pictures).all() for one in batches)
        order = np.concatenate([one.pictures for one in batches])
        drawn.append(np.concatenate([one.augmentations for one in batches])[np.argsort(order)])
        again = pairs.collate(pairs.epoch(4, 7, number)[0])
        assert torch.equal(again.pixels, batches[0].pixels)
    assert len({tuple(one) for one in drawn}) == 3 and set(np.concatenate(drawn)) == {0, 1, 2}
    batch = pairs.collate(pairs.epoch(4, 7, 0)[0])
    row, which = int(batch.pictures[0]), int(batch.augmentations[0])
    redone = augment(data.pictures.open(row), store.example(row, which).seed, pairs.size, SETTINGS.augment)
    model, words = load(place / "one")
    pixels = make_pairs(data, model.config, reader(words, model.config)).scaled(redone[None].copy())
    assert torch.equal(batch.pixels[:1], pixels)


def test_a_part_of_the_set_is_found_by_its_rows(place: Path, data: PictureTextSet, store: ReinforcedStore) -> None:
    rows = np.array([9, 0, 4])
    some = data.take(np.sort(rows))
    targets = StoreTargets(some, store, np.sort(rows))
    pairs = pairs_of(place / "one", some, store, rows=np.sort(rows))
    model, _ = load(place / "one")
    assert PairObjective(model, ALL, targets)(pairs.collate(pairs.epoch(3, 0, 0)[0])).item() == pytest.approx(
        0, abs=1e-5
    )
    for wrong in (None, np.array([0, 1, 10])):
        with pytest.raises(DataError, match="of the training part"):
            StoreTargets(some, store, wrong)


def test_an_ensemble_is_the_mean_of_its_teachers(place: Path, data: PictureTextSet, tmp_path: Path) -> None:
    both = [str(place / "one"), str(place / "two")]
    found = reinforce(both, str(place / "captions.tsv"), tmp_path / "both", SETTINGS)
    assert [one.name for one in found.teachers] == ["one", "two"]
    batch = (pairs := pairs_of(place / "one", data, found)).collate(pairs.epoch(5, 0, 0)[0])
    taught = StoreTargets(data, found).of(batch)
    model, _ = load(place / "one")
    alone = []
    for one in taught:

        class Only:
            def of(self, batch, one=one):
                return [one]

        alone.append(PairObjective(model, ALL, Only())(batch).item())
    mean = PairObjective(model, ALL, StoreTargets(data, found))(batch).item()
    assert mean == pytest.approx(np.mean(alone), abs=1e-6) and alone[1] > 0.01


def test_a_teacher_of_another_width_teaches_by_similarities_alone(place: Path, data: PictureTextSet) -> None:
    model, _ = load(place / "one")

    class Wide:
        def of(self, batch):
            from edgekit.distill.clip.objective import Taught

            wide = torch.nn.functional.normalize(torch.randn(len(batch.pictures), 9), dim=-1)
            return [Taught(wide, wide, 10.0)]

    made = make_pairs(data, model.config, reader(load(place / "one")[1], model.config))
    batch = made.collate(made.epoch(4, 0, 0)[0])
    assert torch.isfinite(PairObjective(model, PairLosses(feature_cosine=0.0), Wide())(batch))
    with pytest.raises(StageError, match=r"9 numbers of a teacher.*feature_cosine"):
        PairObjective(model, ALL, Wide())(batch)


def test_a_teacher_sees_pictures_at_its_own_size(place: Path) -> None:
    teacher = open_teacher(str(place / "one"))
    model, _ = load(place / "one")
    picture = np.asarray(Image.fromarray(duals.examples(1)[0][0]).resize((teacher.size * 2,) * 2))
    small = np.asarray(Image.fromarray(picture).resize((teacher.size,) * 2, Image.Resampling.BICUBIC))
    np.testing.assert_allclose(teacher.embed_images(picture[None]), teacher.embed_images(small[None]), atol=1e-6)
    assert teacher.scale == pytest.approx(model.scale().item())
    np.testing.assert_allclose(np.linalg.norm(teacher.embed_texts(["a dog", "a cat"]), axis=1), 1, atol=1e-5)


def test_of_a_recipe_the_training_part_is_taken(place: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"task: clip\nmodel: new\ndata: {{train: {place / 'captions.tsv'}}}\nmax_length: 40\nstride: 0\n")
    some, whole = training_part(str(recipe)), training_part(str(place / "captions.tsv"))
    assert 0 < len(some) < len(whole) == 10
    assert set(some.pictures.names) < set(whole.pictures.names)
    recipe.write_text("task: classify\nmodel: x\ndata: {train: vader}\n")
    with pytest.raises(DataError, match="expected clip"):
        training_part(str(recipe))


@pytest.mark.slow
def test_the_verb_that_is_killed_goes_on_to_the_same_bytes(place: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgekit", "reinforce", "-m", str(place / "one"), "-d",
               str(place / "captions.tsv"), "--augmentations", "4", "--shard-size", "1", "--dtype", "float32",
               "--format", "json", "-o"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    child = subprocess.Popen([*command, str(tmp_path / "broken")], env=env, stderr=subprocess.PIPE)
    try:
        while child.poll() is None and not list((tmp_path / "broken").glob("shard-*")):
            pass
        child.send_signal(signal.SIGKILL)
    finally:
        child.wait()
    left = {path.name for path in (tmp_path / "broken").glob("shard-*.safetensors")}
    assert left
    for name in ("broken", "whole"):
        done = subprocess.run([*command, str(tmp_path / name)], env=env, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("broken", "whole")]
    assert files[0] == files[1] and len(files[0]) == 11


def test_a_student_of_a_recipe_trains_on_the_store(
    place: Path, data: PictureTextSet, store: ReinforcedStore, tmp_path: Path
) -> None:
    """``two`` follows what ``one`` said; the model it was made from is not asked."""
    training = {"epochs": 3, "min_steps": 1, "batch_size": 5, "learning_rate": 1e-3}
    raw = {
        **{"name": "r", "task": "clip", "model": "new", "max_length": 16, "stride": 0, "threads": 1, "bf16": False},
        "data": {"train": "rendered"},
        "stages": {"distill": {**training, "reinforced": str(store.folder)}},
    }
    splits = PictureSplits(data, data.take(range(4)), data.take(range(4)), [], "x")
    report = families.distil(
        Recipe.model_validate(raw), splits, place / "two", tmp_path / "model", tmp_path / "work", Silent()
    )
    losses = [epoch["loss"] for epoch in report["history"]]
    assert losses[-1] < losses[0] and report["losses"]["feature_cosine"] == 1.0
    assert not (tmp_path / "answers").exists() and not list(tmp_path.glob("*/answers"))
    start, student, teacher = (load(folder)[0] for folder in (place / "two", tmp_path / "model", place / "one"))
    pairs, targets = pairs_of(place / "two", data, store), StoreTargets(data, store)
    batch = pairs.collate(pairs.epoch(10, 0, 0)[0])
    before, after = (PairObjective(model, ALL, targets)(batch).item() for model in (start, student))
    assert after < before and teacher.config.image != student.config.image
    raw["stages"]["distill"]["max_examples"] = 6
    some = Recipe.model_validate(raw)
    assert families.distil(some, splits, place / "two", tmp_path / "m2", tmp_path / "w2", Silent())["history"]
    other = PictureSplits(data.take(range(9)), data.take(range(4)), data.take(range(4)), [], "x")
    with pytest.raises(DataError, match="reinforced"):
        families.distil(some, other, place / "two", tmp_path / "m3", tmp_path / "w3", Silent())
    nowhere = {**raw, "stages": {"distill": {**training, "reinforced": str(tmp_path / "nowhere")}}}
    with pytest.raises(DataError, match="nowhere"):
        families.distil(
            Recipe.model_validate(nowhere), splits, place / "two", tmp_path / "m4", tmp_path / "w4", Silent()
        )
