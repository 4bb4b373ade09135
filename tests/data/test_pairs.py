"""The data of a recipe for task clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.data import PictureTextSet, TextSet, load_parts
from edgekit.data.pictures import PictureSplits
from edgekit.errors import DataError, RecipeError
from edgekit.progress import Silent
from edgekit.recipe import DataConfig


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 noisy pictures with two captions each."""
    folder = tmp_path_factory.mktemp("captions")
    random = np.random.default_rng(0)
    lines = ["image\tcaption"]
    for i in range(40):
        Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        lines += [f"{i}.png\tpicture {i}", f"{i}.png\tnoise number {i}"]
    (folder / "captions.tsv").write_text("\n".join(lines), "utf-8")
    return folder / "captions.tsv"


def load(**data: object) -> PictureSplits[PictureTextSet]:
    found = load_parts(DataConfig.model_validate(data), "clip", 0, Silent())
    assert isinstance(found, PictureSplits)
    return found


def test_parts_are_cut_by_picture(captions: Path) -> None:
    splits = load(train=str(captions), validation_fraction=0.2, test_fraction=0.2)
    parts = [splits.train, splits.validation, splits.test]
    assert sum(len(part) for part in parts) == 40
    digests = [set(part.pictures.digests) for part in parts]
    assert not (digests[0] & digests[1] or digests[0] & digests[2] or digests[1] & digests[2])
    again = load(train=str(captions), validation_fraction=0.2, test_fraction=0.2)
    assert again.fingerprint == splits.fingerprint and splits.names == []


def test_a_bound_on_training_pictures_is_stated_and_changes_the_fingerprint(captions: Path) -> None:
    whole = load(train=str(captions))
    some = load(train=str(captions), max_examples=10)
    assert len(some.train) == 10 and len(some.test) == len(whole.test)
    assert "train: 10 of" in " ".join(some.rules) and some.fingerprint != whole.fingerprint


def test_rendered_pictures_need_nothing() -> None:
    splits = load(train="rendered", max_examples=1000)
    assert len(splits.train) == 1000 and splits.zero_shot is not None
    with pytest.raises(RecipeError, match="rendered alone"):
        load(train="rendered", test="rendered")


def test_what_cannot_be_read_is_named(captions: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.train"):
        load(train=[str(captions), str(captions)])
    with pytest.raises(DataError, match="nowhere"):
        load(train=str(captions.with_name("nowhere.tsv")))
    with pytest.raises(DataError, match="text"):
        load(train={"path": str(captions), "text": "text"})


def test_samples_and_spreads_of_every_kind_of_set(captions: Path) -> None:
    texts = TextSet([f"{'x' * (i % 7)} {i}" for i in range(50)] * 2)
    assert texts.sample(10, 0) == texts.sample(10, 0) != texts.sample(10, 1)
    assert len(texts.sample(1000, 0)) == 100
    spread = texts.spread(10)
    assert [len(text) for text in spread] == sorted(len(text) for text in spread) and len(set(spread)) == 10
    pictures = load(train=str(captions)).train
    for examples in (pictures.sample(3, 0), pictures.spread(3)):
        assert len(examples) == 3
        assert all(picture.shape == (8, 8, 3) and caption.startswith("picture") for picture, caption in examples)
