"""Classes by their names: top-k accuracy and who is taken for whom. Ties count against the model, as in ranking."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.evaluate import intervals
from edgekit.evaluate.compare import Drop, mean_drop
from edgekit.evaluate.metrics import Score
from edgekit.evaluate.outputs import Array
from edgekit.evaluate.ranking import TIE, unit


def similarities(images: Array, classes: Array) -> NDArray[np.float32]:
    """Cosine of each of ``images`` (n, D) with each of ``classes`` (C, D): (n, C). EngineError on NaN."""
    if images.ndim != 2 or classes.ndim != 2 or images.shape[1] != classes.shape[1]:
        raise DataError("embeddings", found=f"{images.shape} and {classes.shape}", expected="(n, D) and (C, D)")
    return unit(images, "images") @ unit(classes, "classes").T


def class_ranks(scores: Array, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of the right class of each picture, from 1; (n,). ``scores`` (n, C), ``labels`` (n,)."""
    if scores.ndim != 2 or not len(scores) or labels.shape != (len(scores),):
        raise DataError("scores", found=f"{scores.shape} and {labels.shape}", expected="(n, C) and (n,), n at least 1")
    if not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise DataError("labels", found=f"{labels.min()} to {labels.max()}", expected=f"0 to {scores.shape[1] - 1}")
    if not np.isfinite(scores).all():
        raise DataError("scores", found="NaN or infinity", expected="finite numbers")
    own = scores[np.arange(len(labels)), labels]
    return (scores >= own[:, None] - np.asarray(TIE, scores.dtype)).sum(axis=1)  # counts itself: ranks begin at 1


def zero_shot_scores(scores: Array, labels: NDArray[np.int64]) -> dict[str, Score]:
    """``top1`` and ``top5`` (top C with fewer classes) of cosines (n, C), with exact intervals.

    ``details`` of top1: ``balanced`` (mean over the classes that occur) and ``confusion`` (:func:`confusion`).
    """
    ranks = class_ranks(scores, labels)
    found = {}
    for k in (1, 5):
        right = (ranks <= k).astype(np.float64)
        low, high = intervals.exact_share(int(right.sum()), len(right))
        found[f"top{k}"] = Score(f"top{k}", float(right.mean()), low, high, len(right), right)
    table = confusion(scores, labels)
    occurs = table.sum(axis=1) > 0
    balanced = float((table.diagonal()[occurs] / table.sum(axis=1)[occurs]).mean())
    found["top1"].details.update(balanced=balanced, confusion=table)
    return found


def zero_shot_drop(before: Array, after: Array, labels: NDArray[np.int64]) -> dict[str, Drop]:
    """What top1 and top5 lost between two models' cosines (n, C each) on the same pictures; paired bootstrap."""
    first, second = class_ranks(before, labels), class_ranks(after, labels)
    drops = {}
    for k in (1, 5):
        drops[f"top{k}"] = mean_drop((first <= k).astype(np.float64) - (second <= k))
    return drops


def confusion(scores: Array, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(C, C): pictures of class row that were taken for class column; the diagonal is what top1 counts as right."""
    ranks = class_ranks(scores, labels)
    wrong = np.array(scores, np.float64)
    wrong[np.arange(len(labels)), labels] = -np.inf
    answers = np.where(ranks == 1, labels, wrong.argmax(axis=1))
    table = np.zeros((scores.shape[1],) * 2, np.int64)
    np.add.at(table, (labels, answers), 1)
    return table
