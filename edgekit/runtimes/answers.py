"""What the tasks answer with. Arrays are float32 or int64; nothing is copied that need not be."""

from __future__ import annotations

from math import exp
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgekit.runtimes.preprocess import Words

Floats = npt.NDArray[np.float32]


class Tag(NamedTuple):
    """A whitespace word, its place in the text (characters, end exclusive), its label and that label's probability."""

    word: str
    start: int
    end: int
    label: str
    score: float


class Classification:
    """Answers for n texts and C classes: ``logits`` float32 (n, C) as the model gave them, ``names`` of the C classes.

    The rest is worked out when it is asked for: on a small board a numpy call costs microseconds after each inference,
    when its code has left the cache.
    """

    __slots__ = ("_one", "logits", "names")

    def __init__(self, logits: Floats, names: list[str]) -> None:
        self.logits, self.names = logits, names
        self._one: tuple[int, float] | None = None

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """The best class's number for each text, int64 (n,)."""
        return self.logits.argmax(1)

    @property
    def labels(self) -> list[str]:
        """The best class's name for each text."""
        if len(self.logits) == 1:
            return [self.names[self._single()[0]]]
        return [self.names[i] for i in self.logits.argmax(1).tolist()]

    @property
    def scores(self) -> Floats:
        """The best class's probability for each text, float32 (n,)."""
        if len(self.logits) == 1:
            found: Floats = np.empty(1, np.float32)
            found[0] = self._single()[1]
            return found
        return self.probabilities.max(1, initial=0.0)

    def _single(self) -> tuple[int, float]:
        one = self._one
        if one is None:
            one = self._one = _best(self.logits.tolist()[0])
        return one

    @property
    def probabilities(self) -> Floats:
        """float32 (n, C), rows sum to 1."""
        return softmax(self.logits)

    def top(self, k: int) -> list[list[tuple[str, float]]]:
        """The ``k`` likeliest (name, probability) of each text, best first."""
        probabilities = self.probabilities
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        return [[(self.names[i], float(row[i])) for i in best] for best, row in zip(order, probabilities, strict=True)]

    def __len__(self) -> int:
        return len(self.logits)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Classification):
            return NotImplemented
        return self.names == other.names and np.array_equal(self.logits, other.logits)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = [f"{label} {score:.3f}" for label, score in zip(self.labels[:3], self.scores[:3], strict=True)]
        return f"Classification({', '.join(shown)}{', ...' if len(self) > 3 else ''})"


def softmax(logits: Floats) -> Floats:
    """Over the last axis, without overflow."""
    grown: Floats = np.exp(logits - logits.max(-1, keepdims=True)) if logits.size else logits
    grown /= grown.sum(-1, keepdims=True)
    return grown


def tags(text: str, words: Words, logits: Floats, names: list[str]) -> list[Tag]:
    """One :class:`Tag` a word; words of which the tokenizer keeps nothing are left out."""
    found = []
    for (start, end), token, row in zip(words.spans, words.tokens, logits.tolist(), strict=True):
        if token >= 0:
            label, score = _best(row)
            found.append(Tag(text[start:end], start, end, names[label], score))
    return found


def _best(row: list[float]) -> tuple[int, float]:
    """Number and probability of the best class, in plain Python: for a few classes half of what numpy's calls cost."""
    top = max(row)
    total = 0.0
    for value in row:
        total += exp(value - top)
    return row.index(top), 1.0 / total
