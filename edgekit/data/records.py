"""What a data set is once it has been read: texts with labels, pairs or tags, in three parts."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int, int]


@dataclass(frozen=True)
class TextSet:
    """Texts, and what is known of each. A field that the task does not use is None."""

    texts: list[str]
    labels: NDArray[np.int64] | None = None  # classify: (n,), index into Splits.names
    pairs: list[str] | None = None  # embed evaluation: the second text of each pair
    scores: NDArray[np.float32] | None = None  # embed evaluation: (n,), how alike the pair is
    tags: list[list[Span]] | None = None  # tag: (first char, end char, label) of each word
    strata: list[str] | None = None  # what cuts keep in proportion; None: the label

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> TextSet:
        """The rows at ``indices``, in that order."""
        rows = [int(index) for index in indices]

        def some(values: list[Any] | None) -> list[Any] | None:
            return None if values is None else [values[row] for row in rows]

        return TextSet(
            texts=[self.texts[row] for row in rows],
            labels=None if self.labels is None else self.labels[rows],
            pairs=some(self.pairs),
            scores=None if self.scores is None else self.scores[rows],
            tags=some(self.tags),
            strata=some(self.strata),
        )

    def sample(self, count: int, seed: int) -> list[Any]:
        """``count`` of the texts, or all, drawn by ``seed``: a file is often sorted, its first rows no sample."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return [self.texts[row] for row in rows]

    def spread(self, count: int) -> list[Any]:
        """At most ``count`` different texts, from the shortest to the longest, spread evenly over what there is."""
        texts = sorted(dict.fromkeys(self.texts), key=len)
        picks = np.linspace(0, len(texts) - 1, min(count, len(texts))).round().astype(int)
        return [texts[pick] for pick in picks]


@dataclass(frozen=True)
class Splits:
    """A data set ready for use. ``rules`` states, one a line, everything that was decided on the way."""

    train: TextSet
    validation: TextSet
    test: TextSet
    names: list[str]  # of the labels, by index; empty for embed
    rules: list[str]
    fingerprint: str  # sha256 over the content of all parts
    licences: list[dict[str, str]] = field(default_factory=list)
    name: str = ""


def fold(text: str) -> str:
    """Texts that fold to the same string count as the same text: case and runs of white space are ignored."""
    return " ".join(text.casefold().split())


def fingerprint(parts: Iterable[TextSet], names: Sequence[str]) -> str:
    """sha256 over everything in ``parts`` that training or evaluation can see."""
    digest = hashlib.sha256()

    def add(value: bytes) -> None:
        digest.update(struct.pack("<Q", len(value)))
        digest.update(value)

    for name in names:
        add(name.encode())
    for part in parts:
        add(b"part")
        for texts in (part.texts, part.pairs):
            add(b"-" if texts is None else str(len(texts)).encode())
            for text in texts or ():
                add(text.encode())
        add(b"-" if part.labels is None else part.labels.astype("<i8").tobytes())
        add(b"-" if part.scores is None else part.scores.astype("<f4").tobytes())
        add(b"-" if part.tags is None else repr(part.tags).encode())
    return digest.hexdigest()
