"""Dual encoders at the gate: recall both ways, what was lost, who finds the same picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit.data.pictures import ArrayPictures, PictureTextSet
from edgekit.errors import DataError
from edgekit.evaluate import agreement, metric_name, paired_drop, parity, score
from edgekit.evaluate.dual import answered

PICTURES, CAPTIONS, WIDTH = 40, 3, 16


@pytest.fixture(scope="module")
def data() -> PictureTextSet:
    random = np.random.default_rng(0)
    pictures = ArrayPictures.of(random.integers(0, 255, (PICTURES, 4, 4, 3), dtype=np.uint8))
    captions = [f"picture {i}, {j}" for i in range(PICTURES) for j in range(CAPTIONS)]
    return PictureTextSet(pictures, captions, np.repeat(np.arange(PICTURES), CAPTIONS))


def outputs(noise: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.normal(size=(PICTURES, WIDTH))
    texts = np.repeat(images, CAPTIONS, axis=0)
    return images, texts + noise * np.random.default_rng(seed).normal(size=texts.shape)


def slow_recall(images: np.ndarray, texts: np.ndarray) -> float:
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    scores = b @ a.T
    each = []
    for i in range(len(images)):
        own = range(i * CAPTIONS, (i + 1) * CAPTIONS)
        found = np.mean([scores[row].argmax() == i for row in own])
        each.append((found + (scores[:, i].argmax() in own)) / 2)
    return float(np.mean(each))


@pytest.mark.parametrize("noise", [0.0, 0.6, 1.5, 8.0])
def test_recall_is_that_of_both_directions(data: PictureTextSet, noise: float) -> None:
    found = score("clip", outputs(noise), data)
    assert found.metric == metric_name("clip", data) == "recall_at_1"
    assert found.value == pytest.approx(slow_recall(*outputs(noise)))
    assert found.low <= found.value <= found.high and found.n == PICTURES
    both = (found.details["text_to_image_r1"] + found.details["image_to_text_r1"]) / 2
    assert found.value == pytest.approx(both)
    assert found.details["text_to_image_r10"] >= found.details["text_to_image_r5"] >= found.details["text_to_image_r1"]


def test_what_is_lost_is_paired_by_picture(data: PictureTextSet) -> None:
    before, after = outputs(0.6), outputs(1.5)
    drop = paired_drop("clip", before, after, data)
    assert drop.value == pytest.approx(slow_recall(*before) - slow_recall(*after))
    assert 0 < drop.low <= drop.value <= drop.high
    same = paired_drop("clip", before, before, data)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_models_of_other_widths_can_agree(data: PictureTextSet) -> None:
    images, texts = outputs(0.6)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(WIDTH + 4, WIDTH)))[0]
    assert agreement("clip", (images, texts), (images @ turn.T, texts @ turn.T)) == 1.0
    assert agreement("clip", (images, texts), outputs(8.0)) < 0.5
    assert parity((images, texts), (images, 2 * texts)).cosine_min == pytest.approx(1.0)
    with pytest.raises(DataError, match="the same sets"):
        agreement("clip", (images, texts), (images, texts[1:]))
    with pytest.raises(DataError, match="dual encoder"):
        score("clip", images, data)


def test_for_captions_that_nobody_embeds_their_cached_teacher_stands(data: PictureTextSet) -> None:
    images, _ = outputs(0.0)
    targets = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    taught = replace(data, targets=targets)
    none = np.zeros((0, WIDTH), np.float32)
    ours, theirs = answered(images, none, taught)
    assert ours is images and np.array_equal(theirs, np.repeat(targets, CAPTIONS, axis=0))
    found = score("clip", (ours, theirs), taught)
    assert found.value == 1.0 and found.details["cosine_to_teacher"] == pytest.approx(1)
    noisy = images + np.random.default_rng(1).normal(size=images.shape)
    less = score("clip", answered(noisy, none, taught), taught)
    cosine = (noisy * targets).sum(1) / np.linalg.norm(noisy, axis=1)
    assert less.details["cosine_to_teacher"] == pytest.approx(float(cosine.mean()))
    assert less.details["centred_cosine_to_teacher"] < 1
    given = outputs(0.6)
    assert answered(*given, taught)[1] is given[1], "a model's own texts stand for themselves"
    assert "cosine_to_teacher" not in score("clip", given, data).details
    with pytest.raises(DataError, match=r"text tower.*cached teacher"):
        answered(images, none, data)
