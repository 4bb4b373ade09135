"""95 % intervals: exact for a share, bootstrap for the rest. A fixed seed: a stage gets one verdict, not several."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 1000
SEED = 20190
CONFIDENCE = 0.95
_CELLS = 4_000_000  # indices drawn at once: bounds memory on large sets

Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Draws (B, n) of item numbers -> the statistic of each draw (B,)."""


def exact_share(hits: int, n: int) -> tuple[float, float]:
    """The exact interval of a share (Clopper and Pearson 1934)."""
    interval = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def _draws(n: int) -> Iterator[NDArray[np.int64]]:
    random = np.random.default_rng(SEED)
    step = max(1, _CELLS // max(n, 1))
    for first in range(0, RESAMPLES, step):
        yield random.integers(0, n, size=(min(step, RESAMPLES - first), n))


def bootstrap(n: int, statistic: Statistic) -> tuple[float, float]:
    """Percentile interval over ``RESAMPLES`` draws of ``n`` items with replacement (Efron and Tibshirani 1993, ch. 13).

    Draws in which the statistic is undefined (NaN) are left out; (nan, nan) when all are.
    """
    values = np.concatenate([statistic(draw) for draw in _draws(n)])
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def spearman_rows(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's rank correlation of each row of ``a`` with that of ``b``: (B, n) -> (B,); NaN for a constant row."""
    ra, rb = stats.rankdata(a, axis=1), stats.rankdata(b, axis=1)
    ra -= ra.mean(axis=1, keepdims=True)
    rb -= rb.mean(axis=1, keepdims=True)
    scale = np.sqrt((ra**2).sum(axis=1) * (rb**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (ra * rb).sum(axis=1) / scale, np.nan)
