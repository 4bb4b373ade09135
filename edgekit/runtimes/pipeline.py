"""Texts to the model's outputs: windows, micro-batches, one answer a text. Knows no engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.bundle.records import TaskSpec
from edgekit.runtimes.preprocess import Batch, Ids, TextPreprocessor, Window, Words

Floats = npt.NDArray[np.float32]
Forward = Callable[[Ids, Ids], Floats]

# Texts are worked on in slices, so that what waits in memory does not grow with the caller's list.
SLICE_TEXTS = 1024
SLICE_CHARACTERS = 1 << 20
_FIRST: list[int] = [0]
_NO_WORDS: list[Words] = []


class Prepared:
    """Tokenized texts on their way to the engine. ``windows`` is None for one text in one row; ``words``: tag only."""

    __slots__ = ("batches", "windows", "words")

    def __init__(self, batches: list[Batch], windows: list[Window] | None, words: list[Words]) -> None:
        self.batches, self.windows, self.words = batches, windows, words


class TextPipeline:
    """Ties a :class:`TextPreprocessor` to ``forward``: int64 ids and mask (B, T) -> float32 (B, C), (B, D), (B, T, C).

    ``batching`` False: every window goes alone, for models whose answer to a text depends on the texts beside it.
    ``length_step``: what the engine is given is padded to a multiple of it, as far as the spec's ``max_length`` allows.
    The parts are open so that they can be timed: ``finish(prepared, forward_all(prepared))`` is what :meth:`outputs`
    does for a slice of texts.
    """

    def __init__(
        self, preprocessor: TextPreprocessor, forward: Forward, batching: bool = True, length_step: int = 1
    ) -> None:
        self.preprocessor, self.batching = preprocessor, batching
        self.spec = preprocessor.spec
        self.forward = forward if length_step == 1 else _padded(forward, length_step, self.spec)
        self._tag = self.spec.task == "tag"

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Tokenize, cut into windows and pad."""
        if len(texts) == 1:
            one = self.preprocessor.single(texts[0])
            if one is not None:
                words = [self.preprocessor.words(texts[0], one[2])] if self._tag else _NO_WORDS
                return Prepared([Batch(one[0], one[1], _FIRST)], None, words)
        if self._tag:
            windows, words = self.preprocessor.windows_and_words(texts)
        else:
            windows, words = self.preprocessor.windows(texts), _NO_WORDS
        return Prepared(list(self.preprocessor.batches(windows, self.batching)), windows, words)

    def forward_all(self, prepared: Prepared) -> list[Floats]:
        """The engine's output of each batch."""
        forward = self.forward
        return [forward(batch.ids, batch.mask) for batch in prepared.batches]

    def finish(self, prepared: Prepared, raw: list[Floats]) -> Any:
        """One output a text, in the given order: float32 (n, C) or (n, D); tag: a list of (words, C)."""
        windows = prepared.windows
        if windows is None:
            return [self._pick(prepared.words[0].tokens, raw[0][0])] if self._tag else raw[0]
        rows: list[Any] = [None] * len(windows)
        for batch, outputs in zip(prepared.batches, raw, strict=True):
            for row, output in zip(batch.rows, outputs, strict=True):
                rows[row] = output
        if self._tag:
            groups = groupby(zip(windows, rows, strict=True), key=lambda pair: pair[0].text)
            return [
                self._words(words.tokens, list(group)) for words, (_, group) in zip(prepared.words, groups, strict=True)
            ]
        return self._mean(windows, np.stack(rows))

    def outputs(self, texts: Sequence[str]) -> Any:
        """All ``texts``, slice by slice. Float32 (n, C) or (n, D); tag: a list of n arrays (words, C)."""
        if not texts:
            return [] if self._tag else self.outputs([""])[:0]  # the model knows its width
        if self._tag:
            return [scores for _, _, scores in self.tagged(texts)]
        if len(texts) == 1:  # the way of one text at a time, where every Python call counts
            one = self.preprocessor.single(texts[0])
            if one is not None:
                return self.forward(one[0], one[1])
        parts = []
        for part in _slices(texts):
            prepared = self.prepare(part)
            parts.append(self.finish(prepared, self.forward_all(prepared)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def tagged(self, texts: Sequence[str]) -> Iterator[tuple[str, Words, Floats]]:
        """For task tag: each text, its words and their scores (words, C)."""
        for part in _slices(texts):
            prepared = self.prepare(part)
            yield from zip(part, prepared.words, self.finish(prepared, self.forward_all(prepared)), strict=True)

    def _mean(self, windows: list[Window], rows: Floats) -> Floats:
        owners = np.array([window.text for window in windows])
        count = int(owners[-1]) + 1
        if count == len(windows):
            return rows
        weights = np.array([max(1, window.tokens) for window in windows], np.float32)
        starts = np.searchsorted(owners, np.arange(count))
        total = np.add.reduceat(rows * weights[:, None], starts)
        merged: Floats = (total / np.add.reduceat(weights, starts)[:, None]).astype(np.float32, copy=False)
        several = np.add.reduceat(np.ones_like(weights), starts) > 1
        if self.spec.task == "embed" and self.spec.normalize:
            merged /= np.maximum(np.linalg.norm(merged, axis=1, keepdims=True), 1e-12)
        merged[~several] = rows[starts[~several]]  # untouched to the last bit
        return merged

    def _pick(self, tokens: list[int], row: Floats) -> Floats:
        """(words, C) out of one window's (T, C)."""
        start = self.preprocessor.inner_start
        picked: Floats = row[[start + token for token in tokens]] if tokens else row[:0]
        if -1 in tokens:  # a word that the tokenizer drops has zeros
            picked[[token < 0 for token in tokens]] = 0.0
        return picked

    def _words(self, tokens: list[int], windows: list[tuple[Window, Floats]]) -> Floats:
        """(words, C): each word's first piece, from the window where it is farthest from a cut edge."""
        start, last = self.preprocessor.inner_start, windows[-1][0]
        if len(windows) == 1:
            return self._pick(tokens, windows[0][1])
        total = last.first + last.tokens
        merged = np.zeros((total + 1, len(self.spec.labels)), np.float32)  # the last row: words without a token
        best = np.full(total, -1.0)
        for window, row in windows:
            place = np.arange(window.tokens)
            left = place if window.first else np.full(window.tokens, np.inf)
            right = place[::-1] if window.first + window.tokens < total else np.full(window.tokens, np.inf)
            distance = np.minimum(left, right)
            better = place[distance > best[window.first + place]]
            best[window.first + better] = distance[better]
            merged[window.first + better] = row[start + better]
        return merged[np.array(tokens, np.int64)]


def _padded(forward: Forward, step: int, spec: TaskSpec) -> Forward:
    """``forward`` that is only ever given lengths that are multiples of ``step``, or ``max_length``."""

    def run(ids: Ids, mask: Ids) -> Floats:
        rows, length = ids.shape
        longer = min(-(-length // step) * step, spec.max_length)
        if longer <= length:
            return forward(ids, mask)
        wide_ids, wide_mask = np.full((rows, longer), spec.pad_id, np.int64), np.zeros((rows, longer), np.int64)
        wide_ids[:, :length], wide_mask[:, :length] = ids, mask
        found = forward(wide_ids, wide_mask)
        return found[:, :length] if found.ndim == 3 else found

    return run


def _slices(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = characters = 0
    for end, text in enumerate(texts):
        characters += len(text)
        if end - start >= SLICE_TEXTS or (characters > SLICE_CHARACTERS and end > start):
            yield texts[start:end]
            start, characters = end, len(text)
    yield texts[start:]
