"""How near a model's embeddings are to its teacher's, as they are and about the teacher's mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.evaluate import intervals
from edgekit.evaluate.compare import Drop, mean_drop
from edgekit.evaluate.metrics import Score
from edgekit.evaluate.outputs import Array, cosines, rows

PLAIN, CENTRED = "cosine_to_teacher", "centred_cosine_to_teacher"


def closeness(teacher: Array, outputs: Array) -> dict[str, Score]:
    """Mean cosine of the rows of ``outputs`` (n, D) with those of ``teacher`` (n, D), 95 % bootstrap over rows.

    ``centred_cosine_to_teacher`` first takes the teacher's mean row from both, each of length 1: a part that all
    embeddings share makes any two of them look alike, and hides what was lost. It needs two rows or more.
    """
    return {name: _score(name, each) for name, each in _cosines(teacher, outputs).items()}


def closeness_drop(teacher: Array, before: Array, after: Array) -> dict[str, Drop]:
    """What both cosines of :func:`closeness` lost from ``before`` to ``after``; paired bootstrap over rows."""
    first, second = _cosines(teacher, before), _cosines(teacher, after)
    return {name: mean_drop(each - second[name]) for name, each in first.items()}


def _cosines(teacher: Array, outputs: Array) -> dict[str, NDArray[np.float64]]:
    if teacher.ndim != 2 or teacher.shape != outputs.shape or not len(teacher):
        raise DataError("embeddings", found=f"shapes {teacher.shape} and {outputs.shape}", expected="(n, D) twice")
    a, b = _unit(rows(teacher)), _unit(rows(outputs))
    found = {PLAIN: cosines(a, b)}
    if len(a) > 1:
        found[CENTRED] = cosines(a - a.mean(axis=0), b - a.mean(axis=0))
    return found


def _unit(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.divide(matrix, length, out=np.zeros_like(matrix), where=length > 0)


def _score(name: str, each: NDArray[np.float64]) -> Score:
    low, high = intervals.bootstrap(len(each), lambda draw: each[draw].mean(axis=1))
    return Score(name, float(each.mean()), low, high, len(each), each)
