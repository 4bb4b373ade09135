"""What a candidate loses on held-out data against the model that it was made from."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data import HeldOut, PictureTextSet
from edgekit.evaluate.compare import Drop
from edgekit.evaluate.dual import answered, recall_drop
from edgekit.evaluate.outputs import Outputs
from edgekit.evaluate.predictors import RuntimePredictor
from edgekit.runtimes.model import Model


class PairJudge:
    """Of dual encoders: their embeddings of ``pictures`` and ``captions`` against those ``before``."""

    def __init__(self, data: PictureTextSet, before: Outputs) -> None:
        self._data, self._before = data, before
        self.captions = data.captions

    @cached_property
    def pictures(self) -> list[NDArray[np.uint8]]:
        """uint8 (H, W, 3) each, RGB."""
        return [self._data.pictures.open(row) for row in range(len(self._data))]

    def drop(self, images: NDArray[np.float32], texts: NDArray[np.float32]) -> tuple[float, dict[str, Any]]:
        """What unit embeddings (P, D) and (C, D) lose in recall_at_1, positive is worse; and its interval.

        ``texts`` (0, D): of a model without a text tower.
        """
        return _told(recall_drop(self._before, answered(images, texts, self._data), self._data))


def judge_of(
    data: HeldOut, before: Outputs, drop: Callable[[Outputs], Drop]
) -> PairJudge | Callable[[Model], tuple[float, dict[str, Any]]]:
    """The judge that the quantizers of ``data``'s kind of model ask. ``drop``: what outputs lose against ``before``."""
    if isinstance(data, PictureTextSet):
        return PairJudge(data, before)
    return lambda model: _told(drop(RuntimePredictor(model, 0).predict(data)))


def _told(drop: Drop) -> tuple[float, dict[str, Any]]:
    return drop.value, {"drop_low": drop.low, "drop_high": drop.high}
