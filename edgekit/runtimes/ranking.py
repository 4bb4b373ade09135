"""What a dual encoder answers: names in order, with their scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from edgekit.runtimes.vectors import Floats


class Match(NamedTuple):
    """A label or candidate, its place in the list that was given, its score (0 to 1) and its cosine (-1 to 1)."""

    name: str
    place: int
    score: float
    cosine: float


class ZeroShot:
    """Answers for n pictures and C labels: ``names``; ``cosines`` and ``scores`` float32 (n, C), in the labels' order.

    Scores are calibrated by the model's spec: rows sum to 1 (softmax), or each label has a probability of its own
    (sigmoid). ``answers[i]`` is the list of the ``top_k`` best for picture i, best first, equals in the labels' order.
    """

    __slots__ = ("cosines", "names", "scores", "top_k")

    def __init__(self, cosines: Floats, scores: Floats, names: list[str], top_k: int) -> None:
        self.cosines, self.scores, self.names, self.top_k = cosines, scores, names, top_k

    @property
    def labels(self) -> list[str]:
        """The best label of each picture."""
        return [self.names[i] for i in self.cosines.argmax(1).tolist()]

    def top(self, k: int | None = None) -> list[list[Match]]:
        """The ``k`` best of each picture, best first; None: ``top_k``."""
        return [self._best(row, self.top_k if k is None else k) for row in range(len(self))]

    def _best(self, row: int, k: int) -> list[Match]:
        cosines, scores = self.cosines[row], self.scores[row]
        order = np.argsort(-cosines, kind="stable")[:k].tolist()
        return [Match(self.names[i], i, float(scores[i]), float(cosines[i])) for i in order]

    def __getitem__(self, row: int) -> list[Match]:
        return self._best(range(len(self))[row], self.top_k)

    def __iter__(self) -> Iterator[list[Match]]:
        return iter(self.top())

    def __len__(self) -> int:
        return len(self.cosines)

    def __repr__(self) -> str:
        shown = ", ".join(f"{found[0].name} {found[0].score:.3f}" for found in self.top(1)[:3])
        return f"ZeroShot({shown}{', ...' if len(self) > 3 else ''})"
