"""Where the right answers of a search stand. Ties count against the model: whatever scores as high stands before it.

So a model that says the same of everything finds nothing, where other ways of breaking ties would let it find all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.evaluate.outputs import Array, rows

# Cosines in float32 are exact to about 1e-7, and two orders of one sum differ by as much: nearer ones are a tie.
TIE = 1e-6
DEPTHS = (1, 5, 10)
_CELLS = 16_000_000  # scores held at once (64 MB in float32): bounds memory on large sets


@dataclass(frozen=True)
class Ranked:
    """What each of n queries found.

    ``first`` (n,) int64: the rank of its best-ranked relevant item, from 1. ``average_precision`` (n,) float64, over
    all of its relevant items. ``precision`` {k: (n,) float64}: share of relevant ones among the first k.
    """

    first: NDArray[np.int64]
    average_precision: NDArray[np.float64]
    precision: dict[int, NDArray[np.float64]]

    def within(self, k: int) -> NDArray[np.float64]:
        """1 where a relevant item is among the first ``k``, else 0; (n,)."""
        return (self.first <= k).astype(np.float64)


def unit(embeddings: Array, what: str) -> NDArray[np.float32]:
    """Rows of length 1, float32 (n, D); a zero row stays zero. EngineError on NaN, DataError where it is no matrix."""
    if embeddings.ndim != 2 or not len(embeddings):
        raise DataError(what, found=f"shape {embeddings.shape}", expected="(n, D), n at least 1")
    matrix = rows(embeddings)
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.divide(matrix, length, out=np.zeros_like(matrix), where=length > 0).astype(np.float32)


def rank(
    queries: Array,
    items: Array,
    query_groups: NDArray[np.int64],
    item_groups: NDArray[np.int64],
    depths: tuple[int, ...] = DEPTHS,
) -> Ranked:
    """Rank ``items`` (M, D) by cosine to each of ``queries`` (n, D); an item is relevant that has the query's group.

    Memory is bounded whatever n and M are. DataError where shapes do not fit, or a query has no relevant item.
    """
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise DataError("embeddings", found=f"{queries.shape} and {items.shape}", expected="(n, D) and (M, D)")
    for what, groups, matrix in (("queries", query_groups, queries), ("items", item_groups, items)):
        if groups.shape != (len(matrix),):
            raise DataError(f"groups of {what}", found=f"shape {groups.shape}", expected=f"({len(matrix)},)")
    lonely = ~np.isin(query_groups, item_groups)
    if lonely.any():
        raise DataError(f"query {int(lonely.argmax())}", found="no relevant item", expected="at least one")
    found = list(_each(unit(queries, "queries"), unit(items, "items"), query_groups, item_groups))
    positions = [position for position, _ in found]
    return Ranked(
        first=np.array([position[0] for position in positions], np.int64),
        average_precision=np.array([precision for _, precision in found]),
        precision={k: np.array([(position <= k).sum() / k for position in positions]) for k in depths},
    )


def _each(
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    query_groups: NDArray[np.int64],
    item_groups: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], float]]:
    """Ranks of each query's relevant items, ascending from 1, and their average precision."""
    order = np.argsort(item_groups, kind="stable")
    ordered = item_groups[order]
    step = max(1, _CELLS // len(items))
    for begin in range(0, len(queries), step):
        scores = queries[begin : begin + step] @ items.T
        groups = query_groups[begin : begin + step]
        first, last = np.searchsorted(ordered, groups), np.searchsorted(ordered, groups, side="right")
        own = [order[a:b] for a, b in zip(first, last, strict=True)]
        for row, relevant in zip(scores, own, strict=True):
            bounds = -np.sort(-row[relevant]) - np.float32(TIE)
            row[relevant] = -np.inf
            rivals = row[row >= bounds[-1]]
            rivals.sort()
            before = len(rivals) - np.searchsorted(rivals, bounds)  # irrelevant ones that are not lower
            count = np.arange(1, len(bounds) + 1)
            yield before + count, float((count / (before + count)).mean())
