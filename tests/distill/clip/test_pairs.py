"""Varied training pictures: right in shape, the same for the same examples, untouched where nothing varies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.data import PictureTextSet
from edgekit.data.pictures import ArrayPictures
from edgekit.distill.clip.config import DualConfig
from edgekit.distill.clip.folder import reader
from edgekit.distill.clip.pairs import Pairs, make_pairs, varied
from edgekit.recipe.training import Augment
from tests.distill.clip.helpers import CLIP, VIT
from tests.export import duals


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.sampled_from([1, 16, 33]), st.floats(0, 1), st.floats(0.01, 1), st.integers(0, 2**32 - 1))
def test_varied_pictures_keep_their_shape(count: int, side: int, flip: float, crop: float, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)
    before = pixels.copy()
    settings = Augment(flip=flip, crop=crop)
    found = varied(pixels, settings, np.random.default_rng(seed))
    assert found.shape == pixels.shape and found.dtype == np.uint8 and np.array_equal(pixels, before)
    assert np.array_equal(found, varied(pixels, settings, np.random.default_rng(seed)))
    still = varied(pixels, Augment(), np.random.default_rng(seed))
    assert np.array_equal(still, pixels)
    mirrored = varied(pixels, Augment(flip=1), np.random.default_rng(seed))
    assert np.array_equal(mirrored, pixels[:, :, ::-1])
    flat = np.full_like(pixels, 77)
    assert np.array_equal(varied(flat, settings, np.random.default_rng(seed)), flat)


def pairs(augment: Augment | None) -> Pairs:
    pictures = ArrayPictures.of(np.random.default_rng(0).integers(0, 256, (6, 40, 50, 3), np.uint8))
    data = PictureTextSet(pictures, ["a dog", "a cat"] * 3, np.arange(6))
    config = DualConfig(replace(VIT, image_size=32), CLIP)
    return make_pairs(data, config, reader(duals.tokenizer(), config), augment=augment)


def test_a_batch_varies_its_pictures_the_same_way_each_time_it_is_made() -> None:
    made, plain = pairs(Augment(flip=0.5, crop=0.3)), pairs(None)
    index = np.array([4, 0, 2])
    first, again = made.collate(index).pixels, made.collate(index).pixels
    assert torch.equal(first, again) and first.shape == (3, 3, 32, 32)
    assert not torch.equal(first, plain.collate(index).pixels)
    assert not torch.equal(first[[1]], made.collate(np.array([0, 4, 2])).pixels[:1]), "another batch, another draw"
    assert torch.equal(made.images(slice(None)), plain.images(slice(None))), "what is judged stays as it is"


@pytest.mark.parametrize("augment", [None, Augment()])
def test_where_nothing_varies_pictures_are_as_they_came(augment: Augment | None) -> None:
    found = pairs(augment)
    assert found.augment is None
    assert torch.equal(found.collate(np.array([3, 1])).pixels, found.images(np.array([3, 1])))


@pytest.mark.parametrize(("field", "value"), [("flip", 1.5), ("flip", -0.1), ("crop", 0.0), ("crop", 1.1)])
def test_augmentations_that_cannot_be(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Augment(**{field: value})
