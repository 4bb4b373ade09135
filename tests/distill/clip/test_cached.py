"""What the recipe asks of a dual encoder beside whole towers: cached teachers, locked towers, towers with weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekit.data import PictureTextSet
from edgekit.data.pictures import ArrayPictures, PictureSplits
from edgekit.distill import families
from edgekit.distill.clip.build import new_student, new_teacher
from edgekit.distill.clip.config import DualConfig, NoTextConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.folder import load, save
from edgekit.distill.clip.reconstruct import effort
from edgekit.distill.clip.reparam import Conv2d, reparameterize
from edgekit.errors import DataError, ModelError, RecipeError
from edgekit.evaluate.open import open_predictor
from edgekit.progress import Silent
from edgekit.recipe import Recipe
from edgekit.recipe.schema import TowersConfig
from tests.distill.clip.helpers import VIT, ids, pictures

TRAINING = {"epochs": 1, "min_steps": 1, "batch_size": 16, "learning_rate": 1e-2}
TOWERS = {
    **{"image": "mci", "image_size": 32, "image_widths": [16, 32], "image_depths": [1, 1], "embed_dim": 16},
    **{"context_length": 24, "vocab_size": 520, "text_width": 32, "text_layers": 2, "text_heads": 2},
}
DIM = 16


def recipe(**changes: Any) -> Recipe:
    raw = {
        **{"name": "cached", "task": "clip", "model": "new", "max_length": 24, "stride": 0, "threads": 1},
        **{"bf16": False, "data": {"train": "rendered"}, "teacher": {**TOWERS, "text": "none"}},
    }
    return Recipe.model_validate({**raw, **changes})


def part(count: int, seed: int, dim: int = DIM, cached: bool = True) -> PictureTextSet:
    """Pictures of one colour each and a little noise; what their teacher says is a turn of the colour."""
    random = np.random.default_rng(seed)
    colours = random.uniform(30, 225, (count, 1, 1, 3))
    pixels = (colours + random.normal(0, 5, (count, 32, 32, 3))).clip(0, 255).astype(np.uint8)
    turn = np.random.default_rng(9).normal(size=(4, dim))
    rows = np.concatenate([colours[:, 0, 0] / 128 - 1, np.full((count, 1), 0.3)], axis=1) @ turn
    targets = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    captions = [f"a {'red green blue dark'.split()[i % 4]} picture, {i}" for i in range(count)]
    return PictureTextSet(ArrayPictures.of(pixels), captions, np.arange(count), targets=targets if cached else None)


def splits(**shape: Any) -> PictureSplits[PictureTextSet]:
    return PictureSplits(part(48, 1, **shape), part(16, 2, **shape), part(16, 3, **shape), [], "x")


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of pictures alone: a drawn tower with a linear probe onto the cached embeddings."""
    work = tmp_path_factory.mktemp("probed")
    asked = recipe(stages={"teach": {**TRAINING, "train": "heads", "augment": {"flip": 0.5}}})
    report = families.teach(asked, splits(), work / "model", work / "work", Silent())
    assert report["trained"] == "the projections of the image tower" and report["text_tower"] == "none"
    assert report["validation_cosine"] > 0.9 and report["examples"] == 48
    return work / "model"


def test_the_probe_changes_the_projection_alone(probed: Path) -> None:
    torch.manual_seed(0)
    drawn, _ = new_teacher(recipe().teacher, splits().train.captions)
    found = load(probed)[0].state_dict()
    changed = {name for name, value in drawn.state_dict().items() if not torch.equal(value, found[name])}
    assert changed == {"image.projection.weight"}
    assert not any(name.startswith("text.") for name in found)


def test_a_student_of_pictures_alone_follows_the_cached_teacher(probed: Path, tmp_path: Path) -> None:
    asked = recipe(stages={"distill": {**TRAINING, "epochs": 6, "augment": {"flip": 0.5, "crop": 0.6}}})
    report = families.distil(asked, splits(), probed, tmp_path / "model", tmp_path / "work", Silent())
    assert report["times_fewer_parameters"] == 1.0 and report["text_tower"] == "none"
    losses = [epoch["loss"] for epoch in report["history"]]
    assert losses[-1] < losses[0]
    held = splits().test
    images, texts = open_predictor(tmp_path / "model").predict(held)
    assert images.shape == (16, DIM) and np.array_equal(texts, held.targets)
    assert (images * held.targets).sum(1).mean() > 0.4, "far from a tower that knows nothing"
    small = recipe(
        student={"towers": {**TOWERS, "image_widths": [8, 32], "text": "none"}}, stages={"distill": TRAINING}
    )
    assert (
        families.distil(small, splits(), probed, tmp_path / "s", tmp_path / "w", Silent())["times_fewer_parameters"] > 1
    )
    (answer,) = open_predictor(probed).answer((held.pictures.open(0), "a caption that nobody reads"))
    assert answer.shape == (1, DIM)


def test_reconstruction_sees_further_pictures_and_fits_the_probe_anew(probed: Path, tmp_path: Path) -> None:
    more = tmp_path / "more" / "inside"
    more.mkdir(parents=True)
    for row in range(20):
        Image.fromarray(part(20, 5).pictures.open(row)).save(more / f"{row}.png")
    heads = {**TRAINING, "train": "heads", "augment": {"flip": 0.5}}
    prune = {"importance": "reconstruction", "ffn": 0.2, "pictures": str(tmp_path / "more")}
    prune["recovery"] = {**TRAINING, "learning_rate": 1e-4, "augment": {"flip": 0.5}}
    asked = recipe(stages={"teach": heads, "prune": prune})
    report = families.prune(asked, splits(), probed, probed, tmp_path / "model", tmp_path / "work", Silent())
    assert report["losses"] == {"blocks": 1.0, "embedding": 1.0} and report["epochs"] == 1 and report["examples"] == 68
    assert report["after"]["parameters"] < report["before"]["parameters"]
    assert report["probe"]["examples"] == 68 and report["probe"]["validation_cosine"] > 0.9
    before, after = load(probed)[0].image, load(tmp_path / "model")[0].image
    assert effort(after, pictures(1, 32)) <= 0.8 * effort(reparameterize(before), pictures(1, 32))
    alone = {**prune, "pictures": None, "recovery": {"epochs": 0, "min_steps": 0}}
    asked = recipe(stages={"teach": heads, "prune": alone})
    report = families.prune(asked, splits(), probed, probed, tmp_path / "alone", tmp_path / "work2", Silent())
    assert report["epochs"] == 0 and report["probe"]["validation_cosine"] > 0.9
    missing = recipe(stages={"teach": heads, "prune": {**prune, "pictures": str(tmp_path / "none")}})
    with pytest.raises(DataError, match="none"):
        families.prune(missing, splits(), probed, probed, tmp_path / "x", tmp_path / "work3", Silent())


def test_what_reconstruction_cannot_do() -> None:
    for prune, message in (
        ({"importance": "reconstruction", "layers": 1}, "hidden channels"),
        ({"importance": "reconstruction", "heads": 0.5}, "hidden channels"),
        ({"pictures": "x"}, "reconstruction alone"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe(stages={"prune": prune})
    with pytest.raises(ValueError, match="task clip"):
        Recipe.model_validate(
            {
                "task": "embed",
                "data": {"train": "x.csv"},
                "model": "x",
                "stages": {"prune": {"importance": "reconstruction"}},
            }
        )


def test_a_caption_is_followed_by_its_picture_where_the_student_has_texts(tmp_path: Path) -> None:
    asked = recipe(teacher=TOWERS, stages={"teach": {**TRAINING, "epochs": 3}})
    report = families.teach(asked, splits(), tmp_path / "model", tmp_path / "work", Silent())
    losses = [epoch["loss"] for epoch in report["history"]]
    assert report["trained"] == "both towers" and losses[-1] < losses[0]
    assert set(report["losses"]) == {"contrastive", "relational", "feature_cosine"}


@pytest.mark.parametrize("cached", [False, True])
def test_training_the_projections_changes_them_and_the_temperature_alone(cached: bool, tmp_path: Path) -> None:
    asked = recipe(teacher=TOWERS, stages={"teach": {**TRAINING, "train": "heads"}})
    data = splits(cached=cached)
    report = families.teach(asked, data, tmp_path / "model", tmp_path / "work", Silent())
    assert report["trained"] == "the projections of both towers"
    torch.manual_seed(0)
    drawn, _ = new_teacher(asked.teacher, data.train.captions)
    found = load(tmp_path / "model")[0].state_dict()
    changed = {name for name, value in drawn.state_dict().items() if not torch.equal(value, found[name])}
    assert changed == {"image.projection.weight", "text.projection.weight", "logit_scale"}


def test_embeddings_of_another_length_are_refused(probed: Path, tmp_path: Path) -> None:
    wrong = splits(dim=DIM + 1)
    match = r"data\.train\.embeddings.*17 numbers.*16"
    with pytest.raises(RecipeError, match=match):
        families.teach(recipe(stages={"teach": TRAINING}), wrong, tmp_path / "a", tmp_path / "w", Silent())
    with pytest.raises(RecipeError, match=match):
        families.distil(recipe(stages={"distill": TRAINING}), wrong, probed, tmp_path / "a", tmp_path / "w", Silent())


def test_without_texts_there_must_be_a_cached_teacher(probed: Path, tmp_path: Path) -> None:
    alone = splits(cached=False)
    for train in ("all", "heads"):
        asked = recipe(stages={"teach": {**TRAINING, "train": train}})
        with pytest.raises(RecipeError, match=r"teacher\.text.*none.*data\.train\.embeddings"):
            families.teach(asked, alone, tmp_path / "a", tmp_path / "w", Silent())
    with pytest.raises(DataError, match=r"captions.*cached teacher"):
        open_predictor(probed).predict(alone.test)


def test_a_model_without_texts_says_so(tmp_path: Path) -> None:
    model = DualEncoder(DualConfig(VIT, NoTextConfig(24, 16))).eval()
    model.save(tmp_path / "model")
    again = DualEncoder.load(tmp_path / "model")
    assert again.towers == model.merged().towers == ("image",) and again.config == model.config
    with torch.inference_mode():
        torch.testing.assert_close(again.encode_images(pictures(2)), model.encode_images(pictures(2)))
        with pytest.raises(ModelError, match="text tower"):
            again.encode_texts(ids(2))
    with pytest.raises(ModelError, match="embed"):
        DualConfig(VIT, NoTextConfig(25, 16))


def test_a_student_without_a_shape_has_its_teachers_shape_and_weights() -> None:
    torch.manual_seed(1)
    teacher, tokenizer = new_teacher(TowersConfig(**TOWERS), ["a red picture"] * 4)
    student = new_student(None, teacher, tokenizer.get_vocab_size())
    assert student.config == teacher.config
    for name, value in teacher.state_dict().items():
        assert torch.equal(student.state_dict()[name], value), name
    assert student is not teacher and student.image is not teacher.image


def test_a_tower_of_the_teachers_shape_starts_from_it_and_others_are_drawn() -> None:
    torch.manual_seed(1)
    teacher, tokenizer = new_teacher(TowersConfig(**TOWERS), ["a red picture"] * 4)
    teacher.logit_scale.data.fill_(3.0)
    smaller = TowersConfig(**{**TOWERS, "image_widths": [8, 32], "embed_dim": 99, "context_length": 99})
    student = new_student(smaller, teacher, tokenizer.get_vocab_size())
    assert student.config.embed_dim == DIM and student.config.text.context_length == 24
    theirs = teacher.text.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in student.text.state_dict().items())
    assert float(student.logit_scale.detach()) == 3.0
    assert not torch.equal(student.image.projection.weight, teacher.image.projection.weight)
    alone = new_student(TowersConfig(**{**TOWERS, "text": "none"}), teacher, 1)
    assert alone.towers == ("image",) and torch.equal(alone.image.projection.weight, teacher.image.projection.weight)


def test_a_bert_student_starts_from_layers_spread_over_its_teachers(tiny_model: Path) -> None:
    """Three layers, so that spread means first and last."""
    words = {**TOWERS, "text": "bert", "text_layers": 3}
    from edgekit.distill.clip.text import BertTower
    from edgekit.distill.student import cut_layers

    teacher, tokenizer = new_teacher(TowersConfig(**words, text_weights=str(tiny_model)), [])
    assert isinstance(teacher.text, BertTower) and len(teacher.text.encoder.layers) == 2, "at most those it has"
    assert tokenizer.encode("a film").tokens[0] == "[CLS]"
    deeper = BertTower.of(cut_layers(teacher.text.encoder, [0, 1, 0]), DIM)
    for number, layer in enumerate(deeper.encoder.layers):
        next(layer.parameters()).data.fill_(float(number))
    three = DualEncoder(DualConfig(teacher.image.config, deeper.config), teacher.image, deeper)
    student = new_student(TowersConfig(**{**words, "text_layers": 2}), three, tokenizer.get_vocab_size())
    assert isinstance(student.text, BertTower)
    ours = [float(next(layer.parameters()).detach().flatten()[0]) for layer in student.text.encoder.layers]
    assert ours == [0.0, 2.0]
    for name, value in student.text.state_dict().items():
        if "layers." not in name:
            assert torch.equal(value, deeper.state_dict()[name]), name
    assert student.config.text.encoder["heads"] == [12, 12]


def test_berts_that_are_not_there(tmp_path: Path) -> None:
    words = {**TOWERS, "text": "bert"}
    with pytest.raises(RecipeError, match=r"teacher\.text_weights"):
        new_teacher(TowersConfig(**words), [])
    teacher, tokenizer = new_teacher(TowersConfig(**TOWERS), ["a red picture"] * 4)
    with pytest.raises(RecipeError, match=r"student\.towers\.text.*bert"):
        new_student(TowersConfig(**words), teacher, tokenizer.get_vocab_size())
    lite = {**TOWERS, "image": "efficientnet-lite0", "text": "none"}
    missing = TowersConfig(**lite, image_weights=str(tmp_path / "none.pth"))
    with pytest.raises(ModelError, match=r"image_weights .*none\.pth"):
        new_teacher(missing, ["a red picture"] * 4)
    for bad in ({"image_weights": "x"}, {"text_weights": "x"}):
        with pytest.raises(ValueError, match="alone"):
            TowersConfig(**TOWERS, **bad)


def test_depthwise_convolutions_stay_in_fp32_under_autocast() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6)
    depthwise, full = Conv2d(8, 8, 3, groups=8), Conv2d(8, 8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found, other = depthwise(x.bfloat16()), full(x)
    assert found.dtype == torch.float32 and other.dtype == torch.bfloat16
    torch.testing.assert_close(found, depthwise(x.bfloat16().float()))
    assert torch.equal(depthwise(x), torch.nn.functional.conv2d(x, depthwise.weight, depthwise.bias, groups=8))


def test_what_a_teacher_says_is_worked_out_once_for_all_stages_that_follow_it(tmp_path: Path) -> None:
    asked = recipe(teacher=TOWERS, stages={"distill": TRAINING, "prune": {"recovery": TRAINING}})
    data, source = splits(cached=False), tmp_path / "key" / "model"
    torch.manual_seed(0)
    teacher, tokenizer = new_teacher(asked.teacher, data.train.captions)
    save(teacher, tokenizer, source)
    families.distil(asked, data, source, tmp_path / "student", tmp_path / "work", Silent())
    (kept,) = (tmp_path / "answers" / "key").iterdir()
    with np.load(kept) as found:
        assert found["images"].shape == (48, DIM) == found["texts"].shape
        np.testing.assert_allclose(np.linalg.norm(found["images"], axis=1), 1, atol=1e-5)
    written = kept.stat().st_mtime_ns
    families.prune(asked, data, tmp_path / "student", source, tmp_path / "cut", tmp_path / "work2", Silent())
    assert [kept] == list((tmp_path / "answers" / "key").iterdir()) and kept.stat().st_mtime_ns == written
    less = recipe(teacher=TOWERS, stages={"distill": {**TRAINING, "max_examples": 20}})
    families.distil(less, data, source, tmp_path / "less", tmp_path / "work3", Silent())
    assert len(list((tmp_path / "answers" / "key").iterdir())) == 2, "other pictures, other answers"
