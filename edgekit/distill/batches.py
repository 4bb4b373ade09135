"""Training batches: like lengths together, order fixed by seed and epoch, each process its share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from edgekit.data import TextSet

IGNORED = -100  # cross-entropy skips this label
_POOL = 50  # batches sorted by length together: little padding, still shuffled


@dataclass(frozen=True)
class Tokens:
    """A tokenized set: ids of every text end to end, int32, with ``offsets`` (n + 1) into them; optional targets.

    ``labels`` is int64 (n,) for classify; ``token_labels`` int64, as long as ``ids``, for tag.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    pad_id: int
    labels: NDArray[np.int64] | None = None
    token_labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, (n,)."""
        return np.diff(self.offsets)

    def epoch(self, size: int, seed: int, number: int, rank: int = 0, ranks: int = 1) -> list[NDArray[np.int64]]:
        """See :func:`epoch`."""
        return epoch(self, size, seed, number, rank, ranks)

    def collate(self, index: NDArray[np.int64]) -> Batch:
        """See :func:`collate`."""
        return collate(self, index)

    def rows(self, i: int) -> slice:
        """Where text ``i`` lies in ``ids``."""
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))


@dataclass(frozen=True)
class Batch:
    """``index`` (B,) into the set; ``input_ids`` and ``attention_mask`` int64 (B, T); targets where there are any."""

    index: NDArray[np.int64]
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        labels = None if self.labels is None else self.labels.to(device)
        return Batch(self.index, self.input_ids.to(device), self.attention_mask.to(device), labels)


def tokenize(tokenizer: Tokenizer, data: TextSet, max_length: int, pad_id: int) -> Tokens:
    """The first ``max_length`` tokens of each text (training; inference reads long texts in windows)."""
    tokenizer.enable_truncation(max_length)
    try:
        encodings = tokenizer.encode_batch(list(data.texts))
    finally:
        tokenizer.no_truncation()
    offsets = np.zeros(len(encodings) + 1, np.int64)
    offsets[1:] = np.cumsum([len(e.ids) for e in encodings])
    ids = np.fromiter((i for e in encodings for i in e.ids), np.int32, count=int(offsets[-1]))
    token_labels = None
    if data.tags is not None:
        labelled = (_word_labels(e, tags) for e, tags in zip(encodings, data.tags, strict=True))
        token_labels = np.fromiter((x for row in labelled for x in row), np.int64, count=int(offsets[-1]))
    return Tokens(ids, offsets, pad_id, data.labels, token_labels)


def _word_labels(encoding: object, tags: Sequence[tuple[int, int, int]]) -> list[int]:
    """The tag of each word on its first piece, IGNORED elsewhere."""
    starts = {start: label for start, _, label in tags}
    offsets: list[tuple[int, int]] = encoding.offsets  # type: ignore[attr-defined]
    special: list[int] = encoding.special_tokens_mask  # type: ignore[attr-defined]
    return [
        IGNORED if skip or begin == end else starts.get(begin, IGNORED)
        for (begin, end), skip in zip(offsets, special, strict=True)
    ]


def collate(tokens: Tokens, index: NDArray[np.int64]) -> Batch:
    """Pad the texts at ``index`` to the longest of them."""
    width = int(tokens.lengths[index].max())
    ids = np.full((len(index), width), tokens.pad_id, np.int64)
    mask = np.zeros((len(index), width), np.int64)
    token_labels = np.full((len(index), width), IGNORED, np.int64) if tokens.token_labels is not None else None
    for row, i in enumerate(index):
        where = tokens.rows(int(i))
        n = where.stop - where.start
        ids[row, :n], mask[row, :n] = tokens.ids[where], 1
        if token_labels is not None and tokens.token_labels is not None:
            token_labels[row, :n] = tokens.token_labels[where]
    labels = token_labels if token_labels is not None else None if tokens.labels is None else tokens.labels[index]
    return Batch(
        index,
        torch.from_numpy(ids),
        torch.from_numpy(mask),
        None if labels is None else torch.from_numpy(np.asarray(labels, np.int64)),
    )


def epoch(tokens: Tokens, size: int, seed: int, number: int, rank: int = 0, ranks: int = 1) -> list[NDArray[np.int64]]:
    """Indices of this process's part of every batch of one epoch.

    The global batches do not depend on ``ranks``: each is cut into ``ranks`` parts, so that the mean of the
    processes' gradients is the gradient of one process. What cannot be cut evenly is left out of that epoch.
    """
    rng = np.random.default_rng([seed, number])
    order = rng.permutation(len(tokens))
    lengths = tokens.lengths
    pool = size * _POOL
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + size] for i in range(0, len(part), size)]
    even = [batch[: len(batch) - len(batch) % ranks] for batch in (batches[i] for i in rng.permutation(len(batches)))]
    return [batch[rank::ranks] for batch in even if len(batch)]


def steps(examples: int, size: int) -> int:
    """Batches of one epoch in one process."""
    return -(-examples // size)


def by_length(tokens: Tokens, size: int) -> Iterator[NDArray[np.int64]]:
    """All texts once, longest first, for inference."""
    order = np.argsort(-tokens.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]
