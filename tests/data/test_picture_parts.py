"""Parts of picture sets: no picture in two, the same for the same seed, in proportion to the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.data.embeddings import read_embeddings
from edgekit.data.parts import load_captions, load_folders, make_parts
from edgekit.data.pictures import ArrayPictures, PictureSet, PictureTextSet
from edgekit.errors import DataError
from tests.data.test_pictures import pictures

NONE: dict = {"test": None, "validation": None}
TENTHS = {"test": 0.1, "validation": 0.1}


def array_set(values: list[int]) -> PictureTextSet:
    """A picture of each value, with two captions; equal values are equal pictures."""
    arrays = [np.full((2, 2, 3), value, np.uint8) for value in values]
    captions = [f"{row} {number}" for row in range(len(values)) for number in (1, 2)]
    return PictureTextSet(ArrayPictures.of(arrays), captions, np.repeat(np.arange(len(values)), 2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=12, max_size=60).filter(lambda v: len(set(v)) > 5), st.integers(0, 3))
def test_a_picture_is_in_one_part_and_none_is_lost(values: list[int], seed: int) -> None:
    found = make_parts(array_set(values), NONE, TENTHS, seed, "x")
    parts = [found.train, found.validation, found.test]
    digests = [set(part.pictures.digests) for part in parts]
    assert not digests[0] & digests[1] and not digests[0] & digests[2] and not digests[1] & digests[2]
    assert sum(len(part) for part in parts) == len(values)
    assert sorted(caption for part in parts for caption in part.captions) == sorted(array_set(values).captions)
    again = make_parts(array_set(values), NONE, TENTHS, seed, "x")
    assert again.fingerprint == found.fingerprint


def test_another_seed_cuts_another_part() -> None:
    data = array_set(list(range(200)))
    one, two = (make_parts(data, NONE, TENTHS, seed, "x") for seed in (0, 1))
    assert set(one.test.pictures.names) != set(two.test.pictures.names)
    assert len(one.test) == len(two.test) == 20


def test_classes_keep_their_proportion() -> None:
    arrays = [np.full((1, 1, 3), row, np.uint8) for row in range(240)]
    labels = np.array([0] * 200 + [1] * 40)
    found = make_parts(PictureSet(ArrayPictures.of(arrays), labels, ["a", "b"]), NONE, TENTHS, 0, "x")
    assert np.bincount(found.test.labels).tolist() == [20, 4]
    assert found.validation.names == ["a", "b"]


def test_what_train_shares_with_given_parts_is_dropped_from_train() -> None:
    found = make_parts(
        array_set([1, 2, 3, 4]), {"test": array_set([2]), "validation": array_set([3, 2])}, TENTHS, 0, "x"
    )
    assert len(found.train) == 2 and len(found.validation) == 1
    assert any("2 pictures dropped from train" in rule for rule in found.rules)
    assert any("1 picture dropped from validation" in rule for rule in found.rules)
    with pytest.raises(DataError, match="train pictures; found all 1"):
        make_parts(array_set([1]), {"test": array_set([1]), "validation": array_set([2])}, TENTHS, 0, "x")
    with pytest.raises(DataError, match="too few"):
        make_parts(array_set([1, 1]), NONE, TENTHS, 0, "x")


def test_folders_with_and_without_parts(tmp_path: Path) -> None:
    for number, name in enumerate(("a", "b")):
        pictures(tmp_path / "train" / name, 20, 100 * number)
        pictures(tmp_path / "val" / name, 4, 100 * number + 50)
    found = load_folders(tmp_path)
    assert len(found.test) == 8 and len(found.validation) == 4 and len(found.train) == 36
    assert any("val is the test part" in rule for rule in found.rules)
    assert len(load_folders(tmp_path / "train", test_fraction=0.2).test) == 8
    pictures(tmp_path / "val" / "c", 1, 900)
    with pytest.raises(DataError, match="class `c`"):
        load_folders(tmp_path)


def test_flickr8k_and_its_cached_teacher(shared_data: Path) -> None:
    folder = shared_data / "image_text" / "flickr8k"
    found = load_captions(folder / "captions.tsv", test_fraction=0.05)
    assert len(found.train) + len(found.validation) + len(found.test) == 3640
    assert not any("left out" in rule for rule in found.rules)
    assert 4.9 < len(found.train.captions) / len(found.train) <= 5
    teacher = read_embeddings(folder / "clip_vitb32_image_embeddings.npz")
    names = [name for name in found.train.pictures.names if name in set(teacher.names)]
    assert len(teacher) == 2140 and teacher.unit and len(names) > 1500
    assert teacher.of(names).shape == (len(names), 512)


def test_imagenette(shared_data: Path) -> None:
    found = load_folders(shared_data / "image_text" / "imagenette", names={"n01440764": "tench"})
    assert [len(found.train), len(found.validation), len(found.test)] == [540, 60, 400]
    assert "tench" in found.train.names and np.bincount(found.validation.labels).tolist() == [6] * 10
