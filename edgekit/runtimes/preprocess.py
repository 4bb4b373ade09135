"""Text to token windows and padded batches. Nothing is ever cut: a long text becomes several windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgekit.bundle.records import TaskSpec
from edgekit.errors import InputError
from edgekit.runtimes.tokenizer import open_tokenizer

Ids = npt.NDArray[np.int64]

# A micro-batch holds at most this many tokens, and this many token pairs a head (attention grows with the square),
# so that memory stays bounded whatever the caller sends.
BATCH_TOKENS = 2048
BATCH_PAIRS = 1 << 18


class Window(NamedTuple):
    """Tokens ``first`` to ``first + tokens`` of text number ``text``; ``ids`` has the special tokens around them."""

    text: int
    ids: list[int]
    first: int
    tokens: int


class Batch(NamedTuple):
    """``ids`` and ``mask`` int64 (B, T), right-padded; ``rows``: the windows' numbers, in the batch's order."""

    ids: Ids
    mask: Ids
    rows: list[int]


class Words(NamedTuple):
    """The whitespace words of a text: character spans, and the token of each word's first piece (-1: it has none)."""

    spans: list[tuple[int, int]]
    tokens: list[int]


class TextPreprocessor:
    """A tokenizer and the windowing that ``spec`` states. Raises ``BundleError`` for a bad tokenizer file."""

    def __init__(self, tokenizer_json: Path, spec: TaskSpec, threads: int = 1) -> None:
        self.spec = spec
        self.parallel = threads > 1
        self._tokenizer = open_tokenizer(Path(tokenizer_json))
        around = self._tokenizer.encode("").ids
        probe = self._tokenizer.encode("a")
        inner = self._tokenizer.encode("a", add_special_tokens=False).ids
        start = next((i for i in range(len(probe.ids)) if probe.ids[i : i + len(inner)] == inner), 0) if inner else 0
        self._prefix, self._suffix = around[:start], around[start:]
        self._body = spec.max_length - len(around)
        self._step = self._body - spec.stride
        if self._step < 1:
            raise InputError(
                "max_length leaves no room to advance",
                found=f"{spec.max_length} tokens, {len(around)} of them special, stride {spec.stride}",
            )
        self.inner_start = len(self._prefix)  # where a window's own tokens begin
        self._ones = np.ones((1, spec.max_length), np.int64)
        self._ones.setflags(write=False)

    def single(self, text: str) -> tuple[Ids, Ids, Any] | None:
        """The short way for one text: ids and mask, int64 (1, T), and the tokenizer's encoding for :meth:`words`.

        None when the text needs several windows.
        """
        try:
            encoding = self._tokenizer.encode(text)
        except TypeError:
            raise not_text(text, None) from None
        ids = encoding.ids
        count = len(ids)
        if count > self.spec.max_length:
            return None
        return np.array([ids], np.int64), self._ones[:, :count], encoding

    def words(self, text: str, encoding: Any) -> Words:
        """Where the whitespace words of ``text`` are among its tokens."""
        return _words(text, encoding.offsets[len(self._prefix) : len(encoding) - len(self._suffix)])

    def windows(self, texts: Sequence[str]) -> list[Window]:
        """Windows of all ``texts`` in order, each at most ``max_length`` tokens with the special tokens."""
        found: list[Window] = []
        for number, encoding in enumerate(self._encode(texts, offsets=False)):
            found += self._cut(number, encoding.ids)
        return found

    def windows_and_words(self, texts: Sequence[str]) -> tuple[list[Window], list[Words]]:
        """As :meth:`windows`, and where the whitespace words of each text are among its tokens."""
        found: list[Window] = []
        words: list[Words] = []
        for number, encoding in enumerate(self._encode(texts, offsets=True)):
            found += self._cut(number, encoding.ids)
            words.append(self.words(texts[number], encoding))
        return found, words

    def _cut(self, number: int, ids: list[int]) -> Iterator[Window]:
        before, after = len(self._prefix), len(self._suffix)
        if len(ids) <= self.spec.max_length:
            yield Window(number, ids, 0, len(ids) - before - after)
            return
        body = ids[before : len(ids) - after]
        for first in range(0, len(body) - self._body + self._step, self._step):
            part = body[first : first + self._body]
            yield Window(number, self._prefix + part + self._suffix, first, len(part))

    def batches(self, windows: Sequence[Window], batching: bool = True) -> Iterator[Batch]:
        """Micro-batches of like lengths, the longest first, padded on the right with ``pad_id``.

        Without ``batching`` each window is a batch of its own, and nothing is padded.
        """
        order = sorted(range(len(windows)), key=lambda row: -len(windows[row].ids))
        at = 0
        while at < len(order):
            length = max(1, len(windows[order[at]].ids))
            size = max(1, min(BATCH_TOKENS // length, BATCH_PAIRS // length**2)) if batching else 1
            rows = order[at : at + size]
            ids = np.full((len(rows), length), self.spec.pad_id, np.int64)
            mask = np.zeros((len(rows), length), np.int64)
            for place, row in enumerate(rows):
                tokens = windows[row].ids
                ids[place, : len(tokens)] = tokens
                mask[place, : len(tokens)] = 1
            yield Batch(ids, mask, rows)
            at += size

    def _encode(self, texts: Sequence[str], offsets: bool) -> Iterator[Any]:
        if self.parallel and len(texts) > 1:
            batch = self._tokenizer.encode_batch if offsets else self._tokenizer.encode_batch_fast
            try:
                encodings = batch(texts)
            except TypeError:
                pass  # one of them is at fault: the loop below finds it
            else:
                yield from encodings
                return
        for number, text in enumerate(texts):
            try:
                yield self._tokenizer.encode(text)
            except TypeError:
                raise not_text(text, number) from None


def _words(text: str, offsets: Sequence[tuple[int, int]]) -> Words:
    spans: list[tuple[int, int]] = []
    tokens: list[int] = []
    end = at = 0
    for word in text.split():
        start = text.index(word, end)
        end = start + len(word)
        while at < len(offsets) and (offsets[at][1] <= start or offsets[at][0] == offsets[at][1]):
            at += 1
        spans.append((start, end))
        tokens.append(at if at < len(offsets) and offsets[at][0] < end else -1)
    return Words(spans, tokens)


def as_texts(inputs: object) -> list[str]:
    """``inputs`` as a list of texts. Raises ``InputError`` for anything else, naming the place."""
    if isinstance(inputs, str):
        return [inputs]
    if isinstance(inputs, bytes | bytearray | dict) or not hasattr(inputs, "__iter__"):
        raise InputError("input", found=f"{type(inputs).__name__} {inputs!r:.40}", expected="a text or a list of texts")
    texts = list(inputs)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise not_text(text, number)
    return texts


def not_text(value: object, number: int | None) -> InputError:
    where = "input" if number is None else f"input number {number}"
    if isinstance(value, str):
        return InputError(where, found="text with half of a surrogate pair", expected="valid Unicode")
    return InputError(where, found=f"{type(value).__name__} {value!r:.40}", expected="text")
