"""Each tower after its teacher's own: texts follow texts, and a projection is fitted to pictures' embeddings.

Where the student's image tower is its teacher's on smaller pictures, all that is left to train is a text tower of fewer
layers, which needs no picture at all: every caption counts in every epoch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekit.distill.clip import losses
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.objective import PairObjective, Targets
from edgekit.distill.clip.pairs import PairBatch, Pairs
from edgekit.recipe.training import PairLosses

_BATCH = 64


@dataclass(frozen=True)
class Captions:
    """The captions of ``pairs``, without their pictures. ``len`` is their number."""

    pairs: Pairs

    def __len__(self) -> int:
        return len(self.pairs.ids)

    def epoch(self, size: int, seed: int, number: int, rank: int, ranks: int) -> list[NDArray[np.int64]]:
        """Every caption once, in an order of the epoch's own."""
        order = np.random.default_rng([seed, number]).permutation(len(self))
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        even = [batch[: len(batch) - len(batch) % ranks] for batch in batches]
        return [batch[rank::ranks] for batch in even if len(batch)]

    def collate(self, index: NDArray[np.int64]) -> PairBatch:
        """The captions at ``index``; ``pixels`` are of no picture."""
        longest = int(self.pairs.mask[index].sum(1).max())
        ids, mask = (torch.from_numpy(array[index, :longest]) for array in (self.pairs.ids, self.pairs.mask))
        return PairBatch(self.pairs.picture_of[index], index, torch.zeros(0), ids, mask)


class TextObjective(PairObjective):
    """The feature losses of the text tower alone; all other parameters stay as they are."""

    def __init__(self, student: DualEncoder, weights: PairLosses, targets: Targets) -> None:
        super().__init__(student, weights, targets)
        assert targets.texts is not None, "a live teacher answers texts"
        self._wanted = torch.from_numpy(targets.texts)
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(name.startswith("text."))

    def terms(self) -> dict[str, float]:
        """The feature losses in use."""
        return {name: weight for name, weight in super().terms().items() if name.startswith("feature")}

    def forward(self, batch: PairBatch) -> Tensor:
        mine, theirs = self._texts(batch), self._wanted[batch.captions].to(batch.input_ids.device)
        cosine = self.weights.feature_cosine * losses.feature_cosine(mine, theirs)
        return cosine + self.weights.feature_mse * losses.feature_mse(mine, theirs)


def text_cosine(student: DualEncoder, pairs: Pairs, wanted: NDArray[np.float32]) -> float:
    """Mean cosine of the captions' embeddings with ``wanted`` (C, D), unit length."""
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(pairs.ids), _BATCH):
            rows = slice(start, start + _BATCH)
            longest = int(pairs.mask[rows].sum(1).max())
            ids, mask = (torch.from_numpy(array[rows, :longest]) for array in (pairs.ids, pairs.mask))
            total += float((student.encode_texts(ids, mask) * torch.from_numpy(wanted[rows])).sum())
    return total / len(pairs.ids)
