"""Each loss is zero for a perfect student, positive otherwise, and blind to padding."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgekit.distill import losses

B, A, T, D = 3, 4, 6, 8


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])


def test_soft_targets_match_the_formula_of_hinton() -> None:
    student, teacher, t = _random(5, 7), _random(5, 7, seed=1), 3.0
    p = (teacher / t).softmax(-1)
    expected = (p * (p.log() - (student / t).log_softmax(-1))).sum(-1).mean() * t * t
    assert losses.soft_targets(student, teacher, t) == pytest.approx(float(expected), rel=1e-5)
    assert losses.soft_targets(teacher, teacher, t) == pytest.approx(0.0, abs=1e-6)


def test_soft_targets_keep_their_gradient_scale_at_any_temperature() -> None:
    """Why T squared stands there: at high temperature the gradient no longer depends on it."""

    def gradient(t: float) -> Tensor:
        student = _random(5, 7).requires_grad_()
        losses.soft_targets(student, _random(5, 7, seed=1), t).backward()
        assert student.grad is not None
        return student.grad

    assert float((gradient(50.0) - gradient(100.0)).norm() / gradient(100.0).norm()) < 0.05


@pytest.mark.parametrize("loss", [losses.hidden_cosine, losses.hidden_mse])
def test_hidden_losses_ignore_padding(loss) -> None:  # type: ignore[no-untyped-def]
    teacher = _random(B, T, D)
    student = torch.where(MASK[..., None].bool(), teacher, _random(B, T, D, seed=9))
    assert float(loss(student, teacher, MASK)) == pytest.approx(0.0, abs=1e-6)
    assert float(loss(_random(B, T, D, seed=3), teacher, MASK)) > 0.1


def test_attention_loss_is_zero_for_equal_scores_and_allows_lost_heads() -> None:
    q, k = _random(B, A, T, D), _random(B, A, T, D, seed=1)
    assert float(losses.attention_mse((q, k), (q, k), MASK)) == 0.0
    assert float(losses.attention_mse((q[:, :3], k[:, :3]), (q, k), MASK)) > 0.0


def test_relations_compare_models_with_other_numbers_of_heads() -> None:
    teacher = tuple(_random(B, A, T, D, seed=s) for s in range(3))
    assert float(losses.relations(teacher, teacher, MASK)) == pytest.approx(0.0, abs=1e-6)
    student = tuple(_random(B, 6, T, D, seed=s) for s in range(3))
    assert math.isfinite(float(losses.relations(student, teacher, MASK)))
    padded = tuple(torch.where(MASK[:, None, :, None].bool(), x, torch.full_like(x, 9.0)) for x in teacher)
    assert float(losses.relations(padded, teacher, MASK)) == pytest.approx(0.0, abs=1e-6)


def test_embedding_losses_agree_for_unit_vectors() -> None:
    a = torch.nn.functional.normalize(_random(B, D), dim=-1)
    b = torch.nn.functional.normalize(_random(B, D, seed=4), dim=-1)
    assert float(losses.embedding_mse(a, b)) == pytest.approx(2 * float(losses.embedding_cosine(a, b)), rel=1e-4)
