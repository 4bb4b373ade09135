"""Each loss against a slow, plain statement of its formula; none depends on the length of an embedding."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekit.distill.clip import losses

COUNT = 5


def _pair(seed: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(COUNT, size, generator=generator, dtype=torch.float64),
        torch.randn(COUNT, size, generator=generator, dtype=torch.float64),
    )


STUDENT, TEACHER = _pair(0, 6), _pair(1, 9)


def _cosine(a: Tensor, b: Tensor) -> float:
    x, y = a.numpy(), b.numpy()
    return float(x @ y / math.sqrt(x @ x) / math.sqrt(y @ y))


def _softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def _rows(pair: tuple[Tensor, Tensor], scale: float) -> list[list[float]]:
    """Distribution over texts for each picture."""
    return [_softmax([scale * _cosine(i, t) for t in pair[1]]) for i in pair[0]]


def _turned(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return pair[1], pair[0]


def _value(loss: Tensor) -> float:
    assert loss.shape == ()
    return float(loss)


def test_contrastive_is_the_mean_of_both_cross_entropies() -> None:
    both = [-math.log(_rows(p, 14.0)[i][i]) for p in (STUDENT, _turned(STUDENT)) for i in range(COUNT)]
    assert _value(losses.contrastive(*STUDENT, 14.0)) == pytest.approx(np.mean(both), rel=1e-5)


def test_sigmoid_pairs_ask_every_pair() -> None:
    total = 0.0
    for i in range(COUNT):
        for j in range(COUNT):
            sign = 1.0 if i == j else -1.0
            logit = 10.0 * _cosine(STUDENT[0][i], STUDENT[1][j]) - 4.0
            total += math.log(1 + math.exp(-sign * logit))
    assert _value(losses.sigmoid_pairs(*STUDENT, 10.0, -4.0)) == pytest.approx(total / COUNT, rel=1e-5)


def _kl(teacher: list[list[float]], student: list[list[float]]) -> float:
    return sum(
        t * math.log(t / s) for a, b in zip(teacher, student, strict=True) for t, s in zip(a, b, strict=True)
    ) / len(teacher)


def test_contrastive_relational_is_kl_both_ways() -> None:
    expected = (
        _kl(_rows(TEACHER, 20.0), _rows(STUDENT, 8.0))
        + _kl(_rows(_turned(TEACHER), 20.0), _rows(_turned(STUDENT), 8.0))
    ) / 2
    assert _value(losses.contrastive_relational(STUDENT, TEACHER, 8.0, 20.0)) == pytest.approx(expected, rel=1e-5)
    assert _value(losses.contrastive_relational(TEACHER, TEACHER, 20.0, 20.0)) == pytest.approx(0, abs=1e-6)


def test_affinity_mimicking_is_the_teachers_cross_entropy_summed_over_both_ways() -> None:
    expected = 0.0
    for turn in (lambda p: p, _turned):
        theirs, ours = _rows(turn(TEACHER), 20.0), _rows(turn(STUDENT), 8.0)
        expected += sum(-t * math.log(s) for a, b in zip(theirs, ours, strict=True) for t, s in zip(a, b, strict=True))
    found = _value(losses.affinity_mimicking(STUDENT, TEACHER, 8.0, 20.0))
    assert found == pytest.approx(expected / COUNT, rel=1e-5)


def test_feature_losses_compare_through_a_projector() -> None:
    torch.manual_seed(0)
    projector = losses.Projector(6, 9).double()
    answer, target = projector(STUDENT[0]).detach(), TEACHER[0]
    squared = [
        (float(a) - float(b)) ** 2 for x, y in zip(answer, target, strict=True) for a, b in zip(x, y, strict=True)
    ]
    assert _value(losses.feature_mse(STUDENT[0], target, projector)) == pytest.approx(np.mean(squared), rel=1e-5)
    cosines = [_cosine(a, b) for a, b in zip(answer, target, strict=True)]
    found = _value(losses.feature_cosine(STUDENT[0], target, projector))
    assert found == pytest.approx(1 - np.mean(cosines), rel=1e-5)
    assert _value(losses.feature_mse(target, target)) == 0
    assert _value(losses.feature_cosine(target, 3 * target)) == pytest.approx(0, abs=1e-6)


SIMILARITIES: dict[str, Callable[[tuple[Tensor, Tensor], tuple[Tensor, Tensor]], Tensor]] = {
    "contrastive": lambda s, t: losses.contrastive(*s, 10.0),
    "sigmoid": lambda s, t: losses.sigmoid_pairs(*s, 10.0, -10.0),
    "relational": lambda s, t: losses.contrastive_relational(s, t, 10.0, 20.0),
    "affinity": lambda s, t: losses.affinity_mimicking(s, t, 10.0, 20.0),
    "cosine": lambda s, t: losses.feature_cosine(s[0], t[0][:, :6]),
}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_lengths_do_not_matter_and_directions_do(name: str) -> None:
    """A loss that forgot to normalise would change with the length of any row."""
    loss = SIMILARITIES[name]
    lengths = torch.tensor([0.01, 3.0, 50.0, 1.0, 7.0], dtype=torch.float64)[:, None]
    expected = _value(loss(STUDENT, TEACHER))
    stretched = [(a * lengths, b * lengths.flip(0)) for a, b in (STUDENT, TEACHER)]
    assert _value(loss(stretched[0], stretched[1])) == pytest.approx(expected, rel=1e-4)
    turned = (STUDENT[0].roll(1, 0), STUDENT[1])
    assert abs(_value(loss(turned, TEACHER)) - expected) > 1e-3


@pytest.mark.parametrize("name", SIMILARITIES)
def test_gradients_reach_the_student_alone(name: str) -> None:
    student = tuple(x.clone().requires_grad_() for x in STUDENT)
    SIMILARITIES[name]((student[0], student[1]), TEACHER).backward()
    assert student[0].grad is not None and torch.isfinite(student[0].grad).all() and student[0].grad.abs().max() > 0


def test_half_precision_embeddings_are_compared_in_float32() -> None:
    pair = (STUDENT[0].bfloat16(), STUDENT[1].bfloat16())
    found = losses.contrastive(*pair, 14.0)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(losses.contrastive(*STUDENT, 14.0)), rel=0.05)
