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
from edgekit.recipe.training import PairLosses


class Taught(NamedTuple):
    """One teacher's unit embeddings of a batch, float32 (B, D) each, and its factor on cosines."""

    images: Tensor
    texts: Tensor | None
    scale: float


class Answers(Protocol):
    """Where the teachers' embeddings come from."""

    def of(self, batch: PairBatch) -> list[Taught]:
        """What each teacher said of ``batch``; one at least."""


@dataclass(frozen=True)
class Targets:
    """The teacher's unit embeddings of the training set, float32: ``images`` (P, D) and ``texts`` (C, D); its scale.

    ``texts`` None: a cached teacher of pictures alone.
    """

    images: NDArray[np.float32]
    texts: NDArray[np.float32] | None
    scale: float

    def of(self, batch: PairBatch) -> list[Taught]:
        texts = None if self.texts is None else torch.from_numpy(self.texts[batch.captions])
        return [Taught(torch.from_numpy(self.images[batch.pictures]), texts, self.scale)]


class PairObjective(Objective):
    """``forward(batch)``: the loss of :class:`PairLosses`' terms. Without ``targets`` the contrastive term alone.

    Where there are no texts, the student's or the targets', the terms that compare pictures with texts compare the
    student's pictures with the teacher's in their place. Of several teachers, the mean of the losses (Vasu et al. 2024,
    section 3).
    """

    student: DualEncoder

    def __init__(self, student: DualEncoder, weights: PairLosses, targets: Answers | None = None) -> None:
        super().__init__()
        self.student, self.weights, self.targets = student, weights, targets

    def terms(self) -> dict[str, float]:
        """The terms in use and their weights."""
        return {k: v for k, v in self.weights.model_dump().items() if v} if self.targets else {"contrastive": 1.0}

    def forward(self, batch: PairBatch) -> Tensor:
        image = self._images(batch)
        scale = self.student.scale()  # once: it brings the parameter itself back
        if self.targets is None:
            return self._contrastive(image, self._texts(batch), scale)
        text = self._texts(batch) if "text" in self.student.towers else None
        total, taught = torch.zeros((), device=image.device), self.targets.of(batch)
        for one in taught:
            total = total + self._distance(image, text, one, scale) / len(taught)
        if self.weights.contrastive and text is not None:
            total = total + self.weights.contrastive * self._contrastive(image, text, scale)
        return total

    def _images(self, batch: PairBatch) -> Tensor:
        pixels = batch.pixels
        if torch.is_autocast_enabled(pixels.device.type):  # in fp32 some shapes crash torch 2.13's backward pass
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        return self.student.image(pixels).float()

    def _texts(self, batch: PairBatch) -> Tensor:
        return self.student.text(batch.input_ids, batch.attention_mask).float()

    def _contrastive(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        bias = self.student.logit_bias
        if bias is not None:
            return losses.sigmoid_pairs(image, text, scale, bias)
        return losses.contrastive(image, text, scale)

    def _distance(self, image: Tensor, text: Tensor | None, taught: Taught, scale: Tensor) -> Tensor:
        """The weighted terms against one teacher."""
        weights, device, total = self.weights, image.device, torch.zeros((), device=image.device)
        images = taught.images.to(device)
        texts = None if taught.texts is None else taught.texts.to(device)
        ours, theirs = (image, images if text is None else text), (images, images if texts is None else texts)
        for weight, term in (
            (weights.relational, losses.contrastive_relational),
            (weights.affinity, losses.affinity_mimicking),
        ):
            if weight:
                total = total + weight * term(ours, theirs, scale, taught.scale)
        if not (weights.feature_cosine or weights.feature_mse):
            return total
        if image.shape != images.shape:
            raise StageError(
                "feature losses",
                found=f"{images.shape[1]} numbers of a teacher",
                expected=f"{image.shape[1]}",
                fix="Set stages.distill.pair_losses.feature_cosine and feature_mse to 0.",
            )
        known = [(image, images)] if text is None or texts is None else [(image, images), (text, texts)]
        for mine, their in known:
            if weights.feature_cosine:
                total = total + weights.feature_cosine * losses.feature_cosine(mine, their)
            if weights.feature_mse:
                total = total + weights.feature_mse * losses.feature_mse(mine, their)
        return total
