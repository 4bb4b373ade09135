"""The weighted sum of a recipe's losses for dual encoders, held against the teacher's cached embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekit.distill.clip import losses
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.pairs import PairBatch
from edgekit.distill.loop import Objective
from edgekit.recipe.stages import PairLosses


@dataclass(frozen=True)
class Targets:
    """The teacher's unit embeddings of the training set, float32: ``images`` (P, D) and ``texts`` (C, D); its scale."""

    images: NDArray[np.float32]
    texts: NDArray[np.float32]
    scale: float


class PairObjective(Objective):
    """``forward(batch)``: the loss of :class:`PairLosses`' terms. Without ``targets`` the contrastive term alone."""

    student: DualEncoder

    def __init__(self, student: DualEncoder, weights: PairLosses, targets: Targets | None = None) -> None:
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
        targets = self.targets
        theirs = (
            torch.from_numpy(targets.images[batch.pictures]).to(image.device),
            torch.from_numpy(targets.texts[batch.captions]).to(image.device),
        )
        for weight, term in (
            (weights.relational, losses.contrastive_relational),
            (weights.affinity, losses.affinity_mimicking),
        ):
            if weight:
                total = total + weight * term((image, text), theirs, scale, targets.scale)
        for ours, their in zip((image, text), theirs, strict=True):
            if weights.feature_cosine:
                total = total + weights.feature_cosine * losses.feature_cosine(ours, their)
            if weights.feature_mse:
                total = total + weights.feature_mse * losses.feature_mse(ours, their)
        return total
