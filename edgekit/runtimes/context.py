"""Text towers of dual encoders: every text becomes one row of at most the context's length (CLIP: 77 tokens)."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from edgekit.errors import BundleError, EdgekitWarning, InputError
from edgekit.runtimes.engines import Engine
from edgekit.runtimes.preprocess import Ids, as_texts, not_text
from edgekit.runtimes.tokenizer import open_tokenizer

Floats = npt.NDArray[np.float32]
CONTEXT = 77  # Radford et al. 2021, section 2.4: 76 and one more; SigLIP takes 64
OVERFLOW = ("truncate", "error")
ROWS = 16  # texts that go through the tower at once


class ClipTokenizer:
    """Texts to rows of ``context`` token ids, as CLIP takes them: start, tokens, end, padding.

    ``tokenizer``: a ``tokenizer.json`` or a ``Tokenizer``, whose post-processor adds start and end. ``pad_id``: what
    fills the row; None takes the end token, as transformers does for CLIP (openai/CLIP and open_clip use 0, SigLIP 1).
    ``overflow``: "truncate" drops what is too long from the end, keeps the end token and warns once in this object's
    life; "error" raises ``InputError``. ``fixed_length`` False: rows are as long as their longest text needs, for
    towers that do not look at padding. Raises ``BundleError`` for a tokenizer that cannot be read or adds no end.
    """

    def __init__(
        self,
        tokenizer: Path | Tokenizer,
        context: int = CONTEXT,
        pad_id: int | None = None,
        overflow: str = "truncate",
        fixed_length: bool = True,
    ) -> None:
        if overflow not in OVERFLOW:
            raise InputError("overflow", found=repr(overflow), expected=", ".join(OVERFLOW))
        name = "tokenizer" if isinstance(tokenizer, Tokenizer) else Path(tokenizer).name
        self._tokenizer = open_tokenizer(tokenizer if isinstance(tokenizer, Tokenizer) else Path(tokenizer))
        around = self._tokenizer.encode("").ids
        if not around:
            raise BundleError(f"{name}: post_processor", found="no special tokens", expected="an end token at least")
        if context <= len(around):
            raise InputError(
                "context", found=f"{context} tokens", expected=f"more than {len(around)}, the special ones"
            )
        self.context, self.overflow, self.fixed_length = context, overflow, fixed_length
        self.end_id: int = around[-1]
        self.pad_id = self.end_id if pad_id is None else pad_id
        self._tokenizer.enable_truncation(context)  # leaves room for the special tokens
        self._lock = threading.Lock()
        self._warned = False

    def __call__(self, texts: str | Sequence[str], step: int = 1, quiet: bool = False) -> tuple[Ids, Ids]:
        """n texts to ids and mask, int64 (n, T); the mask is 1 up to the end token.

        T is ``context``, or without ``fixed_length`` the longest text's tokens, up to a multiple of ``step``.
        ``quiet``: a text that is cut is not warned of. Raises ``InputError`` for anything but text, and for a text that
        is too long under "error".
        """
        rows = [self._encode(text, number, quiet) for number, text in enumerate(as_texts(texts))]
        length = self.context
        if not self.fixed_length:
            length = min(length, -(-max(map(len, rows), default=1) // step) * step)
        ids = np.full((len(rows), length), self.pad_id, np.int64)
        mask = np.zeros((len(rows), length), np.int64)
        for row, found in enumerate(rows):
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        return ids, mask

    def ids(self, text: str) -> list[int]:
        """The token ids of one text, without padding; one that is too long is cut in silence."""
        return self._encode(text, 0, quiet=True)

    def _encode(self, text: str, number: int, quiet: bool) -> list[int]:
        try:
            encoding = self._tokenizer.encode(text)
        except TypeError:
            raise not_text(text, number) from None
        if encoding.overflowing and not quiet:
            self._overflows(text, number)
        return encoding.ids  # type: ignore[no-any-return]

    def _overflows(self, text: str, row: int) -> None:
        if self.overflow == "error":
            raise InputError(
                f"text number {row}: {text[:40]!r}...", found="too many tokens", expected=f"at most {self.context}"
            )
        with self._lock:
            first, self._warned = not self._warned, True
        if first:
            warnings.warn(
                f"text number {row}, {text[:40]!r}..., has more than {self.context} tokens; its end is dropped, as "
                "will be that of later ones without a warning",
                EdgekitWarning,
                stacklevel=6,
            )


class ClipTextPipeline:
    """A :class:`ClipTokenizer` and a text tower. The counterpart of ``TextPipeline`` for dual encoders: no windows.

    ``forward``: int64 ids and mask (B, T) -> float32 (B, D). ``batching`` False: each text goes alone. ``length_step``:
    T is a multiple of it, as far as the context allows.
    """

    def __init__(
        self,
        tokenizer: ClipTokenizer,
        forward: Callable[[Ids, Ids], Floats],
        batching: bool = True,
        length_step: int = 1,
    ) -> None:
        self.tokenizer, self.forward, self.length_step = tokenizer, forward, length_step
        self.rows = ROWS if batching else 1

    @classmethod
    def of_engine(cls, tokenizer: ClipTokenizer, engine: Engine) -> ClipTextPipeline:
        """With a loaded text tower, whose inputs are (ids, mask) or the ids alone."""
        if len(engine.inputs) == 2:
            return cls(tokenizer, engine.run, engine.batching, engine.length_step)
        return cls(tokenizer, lambda ids, _: engine.run_one(ids), engine.batching, engine.length_step)

    def prepare(self, texts: Sequence[str], quiet: bool = False) -> tuple[Ids, Ids]:
        """Ids and mask, as ``forward`` takes them."""
        return self.tokenizer(texts, self.length_step, quiet)

    def outputs(self, texts: Sequence[str], quiet: bool = False) -> Floats:
        """n texts to the tower's outputs, float32 (n, D). ``quiet`` and errors as in :class:`ClipTokenizer`."""
        if not texts:
            return self.outputs([""])[:0]  # the tower knows its width
        parts = []
        for start in range(0, len(texts), self.rows):
            ids, mask = self.prepare(texts[start : start + self.rows], quiet)
            parts.append(self.forward(ids, mask))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
