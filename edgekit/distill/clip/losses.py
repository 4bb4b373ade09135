"""What dual encoders are trained on. Each loss takes embeddings as towers give them and normalises them itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.distill.clip.dual import normalise

Embeddings = tuple[Tensor, Tensor]  # of pictures and of their texts, both (B, D), row by row a pair


def contrastive(image: Tensor, text: Tensor, scale: Tensor | float) -> Tensor:
    """Mean of the cross-entropies picture to text and text to picture; row i of (B, D) belongs to row i.

    ``scale`` is the inverse temperature. InfoNCE both ways: Radford et al. 2021, section 2.3 and figure 3.
    """
    logits = similarity(image, text) * scale
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def sigmoid_pairs(image: Tensor, text: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """Every pair of (B, D) a yes or no of its own, summed and divided by B. SigLIP (Zhai et al. 2023), equation 2."""
    logits = similarity(image, text) * scale + bias
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def contrastive_relational(
    student: Embeddings, teacher: Embeddings, student_scale: Tensor | float, teacher_scale: Tensor | float
) -> Tensor:
    """KL of the student's image-text similarity distributions from the teacher's, mean over B and both directions.

    Teacher and student may have different D. With several teachers, take the mean of the losses. MobileCLIP (Vasu et
    al. 2024), section 3, multi-modal distillation.
    """
    ours, theirs = similarity(*student) * student_scale, similarity(*teacher) * teacher_scale
    return (_kl(ours, theirs) + _kl(ours.T, theirs.T)) / 2


def affinity_mimicking(
    student: Embeddings, teacher: Embeddings, student_scale: Tensor | float, teacher_scale: Tensor | float
) -> Tensor:
    """Cross-entropy of the student's affinities with the teacher's, image to text plus text to image.

    Its gradient is twice that of :func:`contrastive_relational`, its least value the teacher's entropy, not 0. TinyCLIP
    (Wu et al. 2023), section 3.1.
    """
    ours, theirs = similarity(*student) * student_scale, similarity(*teacher) * teacher_scale
    return F.cross_entropy(ours, theirs.softmax(-1)) + F.cross_entropy(ours.T, theirs.T.softmax(-1))


class Projector(nn.Module):
    """Student features (B, d) to the teacher's length (B, D): a linear regressor. Romero et al. 2015, section 2.2."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.linear = nn.Linear(student, teacher)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out


def feature_mse(student: Tensor, teacher: Tensor, projector: nn.Module | None = None) -> Tensor:
    """Mean squared error of features (B, D), as they are: not a similarity, so not normalised. Romero et al. 2015."""
    answer = student if projector is None else projector(student)
    return F.mse_loss(answer.float(), teacher.float())


def feature_cosine(student: Tensor, teacher: Tensor, projector: nn.Module | None = None) -> Tensor:
    """One minus the cosine of features (B, D), mean over B; half the squared distance at unit length.

    CLIP-KD (Yang et al. 2024), section 3.3, feature distillation.
    """
    answer = student if projector is None else projector(student)
    return (1.0 - (normalise(answer.float()) * normalise(teacher.float())).sum(-1)).mean()


def similarity(image: Tensor, text: Tensor) -> Tensor:
    """Cosines (B, N) of two sets of embeddings of any length."""
    return normalise(image.float()) @ normalise(text.float()).T


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    target = F.log_softmax(teacher, dim=-1)
    return F.kl_div(F.log_softmax(student, dim=-1), target, log_target=True, reduction="batchmean")
