"""Training the projections alone, on what locked towers give: their features are computed once.

Locked-image tuning, LiT (Zhai et al. 2022), here with the text tower locked as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.distill.clip.dual import DualEncoder, normalise
from edgekit.distill.clip.folder import Embeddings
from edgekit.distill.clip.objective import Answers, PairObjective
from edgekit.distill.clip.pairs import PairBatch, Pairs
from edgekit.distill.loop import LoopConfig, train
from edgekit.errors import ModelError
from edgekit.progress import Progress, Silent, track
from edgekit.recipe.training import PairLosses

RUNS = 6  # of `tune`; R@1 of unseen photographs rose up to four, and hardly from there
_BATCH = 64
_DROPOUT = 0.3  # of features in training, against learning a few thousand pictures by heart


@dataclass(frozen=True)
class Features:
    """What locked towers give before their projections: ``images`` (P, F) and ``texts`` (C, H), float32, on the CPU."""

    pairs: Pairs
    images: Tensor
    texts: Tensor

    def __len__(self) -> int:
        return len(self.pairs)

    def epoch(self, size: int, seed: int, number: int, rank: int, ranks: int) -> list[NDArray[np.int64]]:
        """As :meth:`Pairs.epoch`."""
        return self.pairs.epoch(size, seed, number, rank, ranks)

    def collate(self, index: NDArray[np.int64]) -> PairBatch:
        """The captions at ``index`` and their pictures, by number alone."""
        none = torch.zeros(0)
        return PairBatch(self.pairs.picture_of[index], index, none, none, none)

    def embed(self, model: DualEncoder) -> Embeddings:
        """Unit embeddings (P, D) and (C, D), or (0, D), by the projections of ``model`` as they are now."""
        with torch.inference_mode():
            images = normalise(_projected(model.image, self.images))
            texts = torch.zeros(0, images.shape[1])
            if "text" in model.towers:
                texts = normalise(_projected(model.text, self.texts))
        return images.float().numpy(), texts.float().numpy()


class HeadsObjective(PairObjective):
    """As :class:`PairObjective`, by features; every parameter but the projections' and the temperature is locked."""

    def __init__(self, student: DualEncoder, weights: PairLosses, targets: Answers | None, given: Features) -> None:
        super().__init__(student, weights, targets)
        self.given = given
        for name, parameter in student.named_parameters():
            parameter.requires_grad_("projection" in name or name.startswith("logit"))

    def _images(self, batch: PairBatch) -> Tensor:
        return self._varied(self.student.image, self.given.images[batch.pictures])

    def _texts(self, batch: PairBatch) -> Tensor:
        return self._varied(self.student.text, self.given.texts[batch.captions])

    def _varied(self, tower: nn.Module, given: Tensor) -> Tensor:
        return _projected(tower, F.dropout(given, _DROPOUT, self.training)).float()


def heads_of(model: DualEncoder) -> dict[str, Tensor]:
    """A copy of the parameters that :class:`HeadsObjective` trains, by name."""
    return {k: v.clone() for k, v in model.state_dict().items() if "projection" in k or k.startswith("logit")}


def tune(
    objective: HeadsObjective,
    given: Features,
    config: LoopConfig,
    validate: Callable[[Any], float],
    work: Path,
    label: str,
    progress: Progress,
) -> dict[str, Any]:
    """Train the projections several times from where they are, with a seed each, and leave the mean of what came out.

    Runs from one start end near enough to each other for that (model soups, Wortsman et al. 2022); of few pictures each
    learns another part by heart, and the mean keeps what they agree on.
    """
    student = objective.student
    start, found, runs = heads_of(student), list[dict[str, Tensor]](), list[dict[str, Any]]()
    for run in range(RUNS):
        student.load_state_dict(start, strict=False)
        told, seeded = f"{label}, run {run + 1} of {RUNS}", replace(config, seed=config.seed + run)
        runs.append(train(objective, given, seeded, validate, work / str(run), told, progress))
        found.append(heads_of(student))
    student.load_state_dict({k: torch.stack([one[k] for one in found]).mean(0) for k in start}, strict=False)
    return {"losses": objective.terms(), "runs": runs}


def projection(tower: nn.Module) -> nn.Linear:
    """The tower's last layer. Raises ModelError for a tower without."""
    found = getattr(tower, "projection", None)
    if not isinstance(found, nn.Linear):
        raise ModelError("projection", found="none in this tower", expected="one, as it alone is to be trained")
    return found


def _projected(tower: nn.Module, given: Tensor) -> Tensor:
    """Features (N, F) through the tower's last layer."""
    found: Tensor = projection(tower)(given)
    return found


def _features(tower: nn.Module, *inputs: Tensor) -> Tensor:
    found: Tensor = cast(Any, tower).features(*inputs)
    return found


def picture_features(model: DualEncoder, pairs: Pairs, progress: Progress, mirrored: bool = False) -> Tensor:
    """What the image tower gives for all pictures, or their mirror images, before its projection: float32 (P, F)."""
    model.eval()
    found = []
    with torch.inference_mode():
        starts = range(0, len(pairs), _BATCH)
        for i in track(progress, "features of pictures", starts, len(starts)):
            pixels = pairs.images(slice(i, i + _BATCH))
            found.append(_features(model.image, pixels.flip(3) if mirrored else pixels))
    return torch.cat(found).clone()


def features(model: DualEncoder, pairs: Pairs, progress: Progress = Silent()) -> Features:
    """What the towers of ``model``, in evaluation mode, give for all of ``pairs``."""
    images = picture_features(model, pairs, progress)
    with torch.inference_mode():
        starts = range(0, len(pairs.ids) if "text" in model.towers else 0, _BATCH)
        texts = [torch.zeros(0)]
        for i in track(progress, "features of captions", starts, len(starts)):
            rows = slice(i, i + _BATCH)
            longest = int(pairs.mask[rows].sum(1).max())
            ids, mask = (torch.from_numpy(array[rows, :longest]) for array in (pairs.ids, pairs.mask))
            texts.append(_features(model.text, ids, mask))
    return Features(pairs, images, torch.cat(texts[1:] or texts).clone())
