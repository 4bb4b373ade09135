"""What the tasks answer with. Arrays are float32 or int64; nothing is copied that need not be."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    """Answers for n texts and C classes.

    ``probabilities`` float32 (n, C), rows sum to 1; ``indices`` int64 (n,), the best class; ``scores`` float32 (n,),
    its probability; ``labels`` its name; ``names`` all C names; ``logits`` float32 (n, C) as the model gave them.
    """

    __slots__ = ("indices", "logits", "names", "probabilities")

    def __init__(self, logits: Floats, names: list[str]) -> None:
        self.logits, self.names = logits, names
        self.probabilities = softmax(logits)
        self.indices: npt.NDArray[np.int64] = logits.argmax(1)

    @property
    def labels(self) -> list[str]:
        """The best class's name for each text."""
        return [self.names[i] for i in self.indices.tolist()]

    @property
    def scores(self) -> Floats:
        """The best class's probability for each text, float32 (n,)."""
        return self.probabilities.max(1) if len(self) else np.zeros(0, np.float32)

    def top(self, k: int) -> list[list[tuple[str, float]]]:
        """The ``k`` likeliest (name, probability) of each text, best first."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return [
            [(self.names[i], float(row[i])) for i in best] for best, row in zip(order, self.probabilities, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.indices)

    def __eq__(self, other: Any) -> bool:
        return (
            isinstance(other, Classification)
            and self.names == other.names
            and bool((self.logits == other.logits).all())
        )

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
    if not words.spans:
        return []
    probabilities = softmax(logits)
    best = probabilities.argmax(-1).tolist()
    return [
        Tag(text[start:end], start, end, names[label], float(row[label]))
        for (start, end), token, label, row in zip(words.spans, words.tokens, best, probabilities, strict=True)
        if token >= 0
    ]
