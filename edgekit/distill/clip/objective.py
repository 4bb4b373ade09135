"""The weighted sum of a recipe's losses for dual encoders, held against the teacher's cached embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekit.distill.clip import losses
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.pairs import PairBatch
from edgekit.distill.loop import Objective
from edgekit.errors import StageError
from edgekit.recipe.stages import PairLosses


class Taught(NamedTuple):
    """One teacher's unit embeddings of a batch, float32 (B, D) each, and its factor on cosines."""

    images: Tensor
    texts: Tensor
    scale: float


class Answers(Protocol):
    """Where the teachers' embeddings come from."""

    def of(self, batch: PairBatch) -> list[Taught]:
        """What each teacher said of ``batch``; one at least."""


@dataclass(frozen=True)
class Targets:
    """The teacher's unit embeddings of the training set, float32: ``images`` (P, D) and ``texts`` (C, D); its scale."""

    images: NDArray[np.float32]
    texts: NDArray[np.float32]
    scale: float

    def of(self, batch: PairBatch) -> list[Taught]:
        images, texts = self.images[batch.pictures], self.texts[batch.captions]
        return [Taught(torch.from_numpy(images), torch.from_numpy(texts), self.scale)]


class PairObjective(Objective):
    """``forward(batch)``: the loss of :class:`PairLosses`' terms. Without ``targets`` the contrastive term alone.

    Of several teachers, the mean of the losses (Vasu et al. 2024, section 3).
    """

    student: DualEncoder

    def __init__(self, student: DualEncoder, weights: PairLosses, targets: Answers | None = None) -> None:
        super().__init__()
        self.student, self.weights, self.targets = student, weights, targets

    def forward(self, batch: PairBatch) -> Tensor:
        image = self.student.image(batch.pixels).float()
        text = self.student.text(batch.input_ids, batch.attention_mask).float()
        scale, bias, weights = self.student.scale(), self.student.logit_bias, self.weights
        if self.targets is None or weights.contrastive:
            total = losses.contrastive(image, text, scale)
            if bias is not None:
                total = losses.sigmoid_pairs(image, text, scale, bias)
            if self.targets is None:
                return total
            total = weights.contrastive * total
        else:
            total = torch.zeros((), device=image.device)
        taught = self.targets.of(batch)
        for one in taught:
            total = total + self._distance((image, text), one, scale) / len(taught)
        return total

    def _distance(self, ours: tuple[Tensor, Tensor], taught: Taught, scale: Tensor) -> Tensor:
        """The weighted terms against one teacher."""
        weights = self.weights
        device = ours[0].device
        theirs = taught.images.to(device), taught.texts.to(device)
        total = torch.zeros((), device=device)
        for weight, term in (
            (weights.relational, losses.contrastive_relational),
            (weights.affinity, losses.affinity_mimicking),
        ):
            if weight:
                total = total + weight * term(ours, theirs, scale, taught.scale)
        if not (weights.feature_cosine or weights.feature_mse):
            return total
        if ours[0].shape != theirs[0].shape:
            raise StageError(
                "feature losses",
                found=f"{theirs[0].shape[1]} numbers of a teacher",
                expected=f"{ours[0].shape[1]}",
                fix="Set stages.distill.pair_losses.feature_cosine and feature_mse to 0.",
            )
        for mine, their in zip(ours, theirs, strict=True):
            if weights.feature_cosine:
                total = total + weights.feature_cosine * losses.feature_cosine(mine, their)
            if weights.feature_mse:
                total = total + weights.feature_mse * losses.feature_mse(mine, their)
        return total
