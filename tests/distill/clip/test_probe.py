"""The linear probe: of features that know the answer, ridge regression finds it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.distill.clip.config import DualConfig, NoTextConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.heads import projection
from edgekit.distill.clip.pairs import Pairs
from edgekit.distill.clip.probe import PENALTIES, fit_probe
from edgekit.errors import ModelError
from edgekit.progress import Silent
from tests.distill.clip.helpers import VIT

SIDE, WIDTH, DIM = 4, 3 * 4 * 4, 6


class Seen(nn.Module):
    """A tower whose features are the pixels themselves, in a scale beside which the penalties are small."""

    def __init__(self) -> None:
        super().__init__()
        self.config = replace(VIT, embed_dim=DIM)
        self.projection = nn.Linear(WIDTH, DIM, bias=False)

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1) * 1e3


class Small(Seen):
    """The same in a scale that the penalties are large beside."""

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1) * 3


def make(count: int, seed: int) -> Pairs:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    none = np.zeros((count, 1), np.int64)
    return Pairs(pixels, none, none, np.arange(count), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def model() -> DualEncoder:
    return DualEncoder(DualConfig(VIT, NoTextConfig(24, 16)), Seen())


def answers(pairs: Pairs, weights: np.ndarray) -> np.ndarray:
    return (pairs.images(slice(None)).flatten(1).numpy() * 1e3 @ weights.T).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_known_projection_is_found() -> None:
    known = np.random.default_rng(5).normal(size=(DIM, WIDTH)).astype(np.float32)
    train, held, student = make(200, 1), make(50, 2), model()
    said: list[str] = []

    class Told(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    report = fit_probe(student, train, held, answers(train, known), unit(answers(held, known)), False, Told())
    np.testing.assert_allclose(student.image.projection.weight.detach().numpy(), known, atol=1e-3)
    assert report["validation_cosine"] > 0.9999 and report["penalty"] in PENALTIES and report["examples"] == 200
    assert "200 pictures" in said[0] and "on validation" in said[-1]


@pytest.mark.parametrize("shared", [0.0, 30.0])
@pytest.mark.parametrize("centred", [False, True])
def test_the_penalty_is_the_one_that_validation_likes_best(centred: bool, shared: float) -> None:
    """Of targets that are noise but for a little, small weights answer better. ``shared``: what all have in common."""
    random = np.random.default_rng(3)
    known = random.normal(size=(DIM, WIDTH)).astype(np.float32)
    train, held = make(60, 1), make(300, 2)
    given = answers(train, known)
    noisy = (given + (random.normal(size=given.shape) * 2 + shared) * given.std()).astype(np.float32)
    wanted = unit(answers(held, known) + shared * given.std())
    middle = wanted.mean(0) if centred else np.zeros(DIM)

    cosines = {}
    for penalty in PENALTIES:
        features = train.images(slice(None)).flatten(1).double().numpy() * 3
        weights = np.linalg.solve(features.T @ features + penalty * np.eye(WIDTH), features.T @ noisy)
        found = unit(held.images(slice(None)).flatten(1).numpy() * 3 @ weights)
        cosines[penalty] = (unit(found - middle) * unit(wanted - middle)).sum(1).mean()
    student = DualEncoder(DualConfig(VIT, NoTextConfig(24, 16)), Small())
    report = fit_probe(student, train, held, noisy, wanted.astype(np.float32), False, Silent(), centred=centred)
    assert report["penalty"] == max(cosines, key=lambda one: cosines[one])
    assert report["validation_cosine"] == pytest.approx(max(cosines.values()), abs=1e-4)


def test_near_what_there_was_a_projection_keeps_its_scale() -> None:
    """It is turned by a little; few pictures say enough for that, and would not for all of it."""
    random = np.random.default_rng(5)
    known = random.normal(size=(DIM, WIDTH)).astype(np.float32)
    turned = known + 0.3 * random.normal(size=known.shape).astype(np.float32)
    train, held = make(30, 1), make(100, 2)
    wanted = unit(answers(held, turned))
    before = float((unit(answers(held, known)) * wanted).sum(1).mean())
    cosines = []
    for near in (True, False):
        student = DualEncoder(DualConfig(VIT, NoTextConfig(24, 16)), Small())
        with torch.no_grad():
            projection(student.image).weight.copy_(torch.from_numpy(known))
        report = fit_probe(student, train, held, unit(answers(train, turned)), wanted, False, Silent(), near)
        cosines.append(report["validation_cosine"])
        if near:
            found = answers(held, projection(student.image).weight.detach().numpy())
            lengths = [np.linalg.norm(rows, axis=1).mean() for rows in (found, answers(held, known))]
            assert lengths[0] == pytest.approx(lengths[1], rel=0.2)
    assert cosines[0] > before and cosines[0] > cosines[1]


def test_mirror_images_make_a_projection_that_does_not_tell_left_from_right() -> None:
    known = np.random.default_rng(5).normal(size=(DIM, WIDTH)).astype(np.float32)
    train, held, student = make(200, 1), make(50, 2), model()
    fit_probe(student, train, held, answers(train, known), unit(answers(held, known)), True, Silent())
    weights = student.image.projection.weight.detach().view(DIM, 3, SIDE, SIDE)
    torch.testing.assert_close(weights, weights.flip(3), atol=1e-4, rtol=1e-4)


def test_a_tower_without_a_projection_is_refused() -> None:
    tower = DualEncoder(DualConfig(replace(VIT, projection=False, embed_dim=48), NoTextConfig(48, 16)))
    pairs = Pairs(
        np.zeros((2, 64, 64, 3), np.uint8), *[np.zeros((2, 1), np.int64)] * 2, np.arange(2), *[(0.5,) * 3] * 2
    )
    rows = unit(np.random.default_rng(0).normal(size=(2, 48))).astype(np.float32)
    with pytest.raises(ModelError, match="projection"):
        fit_probe(tower, pairs, pairs, rows, rows, False, Silent())
