"""One model beside another on the same items: what a stage cost, and how far it follows its teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekit.data.pictures import PictureTextSet
from edgekit.errors import DataError
from edgekit.evaluate import intervals
from edgekit.evaluate.metrics import _labels, _scores, hits, similarity, word_hits
from edgekit.evaluate.outputs import Outputs, cosines, rows

if TYPE_CHECKING:
    from edgekit.data import HeldOut


@dataclass(frozen=True)
class Drop:
    """Before minus after, in metric units (0.01 is one point of a hundred); positive is worse. 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Parity:
    """How near two models' outputs are. ``centred_*``: cosine after the mean output of the first is taken from both,

    which shows errors that a large common part of all outputs would hide; None with fewer than two outputs.
    """

    cosine_mean: float
    cosine_min: float
    max_abs: float
    centred_mean: float | None
    centred_min: float | None


def paired_drop(task: str, before: Outputs, after: Outputs, data: HeldOut, *, teacher: Outputs | None = None) -> Drop:
    """What was lost from ``before`` to ``after`` on the same items, bootstrap over items drawn once for both.

    Metrics as in :func:`edgekit.evaluate.score`. For embeddings without pairs, ``teacher`` is what both are held
    against; without it ``before`` is. The interval of two models that agree on every item is [0, 0].
    """
    if len(data) == 0:
        raise DataError("no items to compare", expected="at least one")
    if isinstance(data, PictureTextSet):
        from edgekit.evaluate.dual import recall_drop

        return recall_drop(before, after, data)
    if task == "classify":
        lost = hits(rows(before), _labels(data)) - hits(rows(after), _labels(data))
        return mean_drop(lost)
    if task == "tag":
        a, b = word_hits(before, data), word_hits(after, data)
        value = float(a.flat.mean() - b.flat.mean())
        return Drop(value, *intervals.bootstrap(len(data), lambda draw: a.share(draw) - b.share(draw)))
    if data.pairs is not None:
        x, y, truth = similarity(before), similarity(after), _scores(data)
        correlate = intervals.spearman_rows
        value = float((correlate(x[None], truth[None]) - correlate(y[None], truth[None]))[0])
        return Drop(
            value,
            *intervals.bootstrap(
                len(truth), lambda draw: correlate(x[draw], truth[draw]) - correlate(y[draw], truth[draw])
            ),
        )
    reference = rows(before if teacher is None else teacher)
    return mean_drop(cosines(reference, rows(before)) - cosines(reference, rows(after)))


def mean_drop(each: NDArray[np.float64]) -> Drop:
    """The mean of what each item (n,) lost, bootstrap over items."""
    return Drop(float(each.mean()), *intervals.bootstrap(len(each), lambda draw: each[draw].mean(axis=1)))


def agreement(task: str, a: Outputs, b: Outputs) -> float:
    """Share of texts (words for ``tag``) with the same top class; for ``embed`` the mean cosine.

    For ``clip`` the share of captions with the same first picture.
    """
    if task == "clip":
        from edgekit.evaluate.dual import same_picture

        return same_picture(a, b)
    x, y = rows(a), rows(b)
    _same_shape(x, y)
    if not len(x):
        raise DataError("no outputs to compare", expected="at least one")
    if task == "embed":
        return float(cosines(x, y).mean())
    return float((x.argmax(axis=1) == y.argmax(axis=1)).mean())


def parity(a: Outputs, b: Outputs) -> Parity:
    """Cosine of each row and the largest absolute difference of any number; ``a`` is the reference."""
    x, y = rows(a), rows(b)
    _same_shape(x, y)
    if not len(x):
        raise DataError("no outputs to compare", expected="at least one")
    plain = cosines(x, y)
    centred = cosines(x - x.mean(axis=0), y - x.mean(axis=0)) if len(x) > 1 else None
    return Parity(
        cosine_mean=float(plain.mean()),
        cosine_min=float(plain.min()),
        max_abs=float(np.abs(x - y).max()),
        centred_mean=None if centred is None else float(centred.mean()),
        centred_min=None if centred is None else float(centred.min()),
    )


def _same_shape(x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    if x.shape != y.shape:
        raise DataError("outputs of two models", found=f"shapes {x.shape} and {y.shape}", expected="one shape")
