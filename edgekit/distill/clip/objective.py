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
    """The teacher's unit embeddings of the training set, float32: ``images`` (P, D) and ``texts`` (C, D); its scale.

    ``texts`` None: a cached teacher of pictures alone.
    """

    images: NDArray[np.float32]
    texts: NDArray[np.float32] | None
    scale: float


class PairObjective(Objective):
    """``forward(batch)``: the loss of :class:`PairLosses`' terms. Without ``targets`` the contrastive term alone.

    Where there are no texts, the student's or the targets', the terms that compare pictures with texts compare the
    student's pictures with the teacher's in their place.
    """

    student: DualEncoder

    def __init__(self, student: DualEncoder, weights: PairLosses, targets: Targets | None = None) -> None:
        super().__init__()
        self.student, self.weights, self.targets = student, weights, targets

    def forward(self, batch: PairBatch) -> Tensor:
        image = self._images(batch)
        if self.targets is None:
            return self._contrastive(image, self._texts(batch), self.student.scale())
        theirs = torch.from_numpy(self.targets.images[batch.pictures]).to(image.device)
        if self.targets.texts is None:
            text = self._texts(batch) if "text" in self.student.towers else theirs
            return self._weighted([(image, theirs)], (image, text), (theirs, theirs))
        text, wanted = self._texts(batch), torch.from_numpy(self.targets.texts[batch.captions]).to(image.device)
        return self._weighted([(image, theirs), (text, wanted)], (image, text), (theirs, wanted))

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

    def _weighted(
        self, features: list[tuple[Tensor, Tensor]], ours: losses.Embeddings, theirs: losses.Embeddings
    ) -> Tensor:
        """``features``: what the student gives and what it should, for each of its towers."""
        assert self.targets is not None
        weights, total = self.weights, torch.zeros((), device=ours[0].device)
        scale = self.student.scale()  # once: it brings the parameter itself back
        if weights.contrastive:
            total = total + weights.contrastive * self._contrastive(*ours, scale)
        for weight, term in (
            (weights.relational, losses.contrastive_relational),
            (weights.affinity, losses.affinity_mimicking),
        ):
            if weight:
                total = total + weight * term(ours, theirs, scale, self.targets.scale)
        for given, wanted in features:
            if weights.feature_cosine:
                total = total + weights.feature_cosine * losses.feature_cosine(given, wanted)
            if weights.feature_mse:
                total = total + weights.feature_mse * losses.feature_mse(given, wanted)
        return total
