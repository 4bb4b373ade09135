"""What a student is trained on. Each loss is a function of tensors, with its source."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL of softened class distributions, times T squared so that gradients keep their scale.

    Logits (N, C). Hinton et al. 2015, section 2; DistilBERT (Sanh et al. 2019), section 3.
    """
    target = F.log_softmax(teacher.float() / temperature, dim=-1)
    answer = F.log_softmax(student.float() / temperature, dim=-1)
    return F.kl_div(answer, target, log_target=True, reduction="batchmean") * temperature**2


def hidden_cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """One minus the cosine of last hidden states (B, T, H), over real tokens. DistilBERT, section 3."""
    cosine = F.cosine_similarity(student.float(), teacher.float(), dim=-1)
    return _mean(1.0 - cosine, mask)


def hidden_mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of hidden states (B, T, H), over real tokens. TinyBERT (Jiao et al. 2020), equation 8."""
    return _mean((student.float() - teacher.float()).square().mean(-1), mask)


def attention_mse(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Mean squared error of attention scores before softmax. TinyBERT, equation 7.

    Each side is (query, key), (B, A, T, D). Where the student has lost heads, scores are averaged over heads.
    """
    ours, theirs = _scores(*student), _scores(*teacher)
    if ours.shape[1] != theirs.shape[1]:
        ours, theirs = ours.mean(1, keepdim=True), theirs.mean(1, keepdim=True)
    pair = (mask[:, None, :, None] * mask[:, None, None, :]).to(ours.dtype)
    return ((ours - theirs).square() * pair).sum() / (pair.sum() * ours.shape[1]).clamp(min=1.0)


def relations(student: tuple[Tensor, ...], teacher: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """KL of query-query, key-key and value-value relations, with the heads re-cut so that their numbers agree.

    Each side holds three tensors (B, A, T, D). MiniLMv2 (Wang et al. 2021), section 3.
    """
    count = math.gcd(student[0].shape[1], teacher[0].shape[1])
    real = mask.bool()
    blocked = ~real[:, None, None, :]
    rows = real[:, None, :].expand(-1, count, -1)
    total = student[0].new_zeros(())
    for ours, theirs in zip(student, teacher, strict=True):
        answer = F.log_softmax(_scores(_recut(ours, count)).masked_fill(blocked, -1e4), dim=-1)
        target = F.log_softmax(_scores(_recut(theirs, count)).masked_fill(blocked, -1e4), dim=-1)
        total = total + F.kl_div(answer[rows], target[rows], log_target=True, reduction="batchmean")
    return total / len(student)


def embedding_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine of embeddings (B, D)."""
    return (1.0 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)).mean()


def embedding_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of embeddings (B, D), summed over D. Reimers and Gurevych 2020, equation 1."""
    return (student.float() - teacher.float()).square().sum(-1).mean()


def _scores(query: Tensor, key: Tensor | None = None) -> Tensor:
    key = query if key is None else key
    return torch.matmul(query.float(), key.float().transpose(-1, -2)) / math.sqrt(query.shape[-1])


def _recut(x: Tensor, count: int) -> Tensor:
    b, a, t, d = x.shape
    return x.transpose(1, 2).reshape(b, t, count, a * d // count).transpose(1, 2)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1.0)
