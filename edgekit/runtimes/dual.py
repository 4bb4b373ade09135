"""Dual encoders (CLIP, SigLIP) on the device: pictures and texts in one space."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgekit.bundle.records import Record
from edgekit.errors import EngineError, InputError
from edgekit.runtimes.answers import softmax
from edgekit.runtimes.index import Hit, Index
from edgekit.runtimes.preprocess import as_texts
from edgekit.runtimes.prompts import PLACE, PromptBank, check_labels, check_templates, make_bank
from edgekit.runtimes.ranking import Match, ZeroShot
from edgekit.runtimes.vectors import Floats, unit
from edgekit.runtimes.vision.pipeline import ImagePipeline
from edgekit.runtimes.vision.preprocess import is_image

_KEPT_SETS = 16  # sets of labels whose embeddings are kept: a camera asks the same ones at every frame


@dataclass(frozen=True)
class DualSpec(Record):
    """How cosines become scores, and how labels become texts.

    ``logit_scale``: what a cosine is multiplied with, exp() already taken (CLIP: 100 at most). ``logit_bias``: None for
    a softmax over the labels (CLIP), a number for one sigmoid a label (SigLIP, Zhai et al. 2023). ``temperature``:
    logits are divided by it; fitted after quantization where scores are to be calibrated (Guo et al. 2017).
    ``templates``: for labels, where the caller gives none. Raises :class:`InputError`.
    """

    logit_scale: float = 100.0
    logit_bias: float | None = None
    temperature: float = 1.0
    templates: list[str] = field(default_factory=lambda: ["a photo of a {}."])

    def __post_init__(self) -> None:
        for name, value in (("logit_scale", self.logit_scale), ("temperature", self.temperature)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(name, found=value, expected="a number above 0")
        if self.logit_bias is not None and not math.isfinite(self.logit_bias):
            raise InputError("logit_bias", found=self.logit_bias, expected="a number, or none")
        check_templates(self.templates)

    def scores(self, cosines: Floats) -> Floats:
        """float32 (n, C) cosines to scores of the same shape, 0 to 1."""
        logits = (cosines * np.float32(self.logit_scale / self.temperature)).astype(np.float32)
        if self.logit_bias is None:
            return softmax(logits)
        shifted = logits + np.float32(self.logit_bias / self.temperature)
        return np.exp(-np.logaddexp(np.float32(0), -shifted))  # the sigmoid, without overflow


class TextSide(Protocol):
    """What embeds texts: a ``ClipTextPipeline``, or a ``TextPipeline`` for a text tower that is a BERT."""

    def outputs(self, texts: Sequence[str]) -> Floats:
        """n texts to float32 (n, D)."""


class DualModel:
    """An image tower, a text tower or a prompt bank or both, and what can be asked of them.

    ``digest``: a hash of both towers' files, by which indexes and banks are known; a bank of another model is refused.
    Without ``text``, whatever is not a name of the bank raises ``InputError``. Embeddings are float32, unit length.
    ``bgr`` says of arrays that their channels are BGR, as cameras give them. A text is a ``str``; a picture's path,
    where a text may stand too (:meth:`search`), is a ``pathlib.Path``.
    """

    def __init__(
        self,
        images: ImagePipeline,
        text: TextSide | None,
        spec: DualSpec | None = None,
        bank: PromptBank | None = None,
        digest: str = "",
    ) -> None:
        if bank is not None and bank.model and digest and bank.model != digest:
            raise InputError(
                "prompt bank", found=f"one of model {bank.model:.12}", expected=f"{digest:.12}, this model"
            )
        self.images, self.text, self.spec = images, text, spec or DualSpec()
        self.bank, self.digest = bank, digest
        self._sets: dict[tuple[tuple[str, ...], tuple[str, ...]], PromptBank] = {}
        self._lock = threading.Lock()

    def embed_images(self, images: object, bgr: bool = False) -> Floats:
        """One picture or n, in any form that ``decode`` takes, to float32 (n, D). Raises ``InputError``."""
        return unit(self.images.outputs(images, bgr), "image embeddings")

    def embed_pixels(self, pixel_values: Floats) -> Floats:
        """float32 (B, 3, S, S), as the preprocessor gives them, to float32 (B, D)."""
        return unit(self.images.forward(pixel_values), "image embeddings")

    def embed_texts(self, texts: str | Sequence[str]) -> Floats:
        """n texts to float32 (n, D). Without a text tower, names of the bank only; else ``InputError``."""
        texts = as_texts(texts)
        if self.text is not None:
            return unit(self.text.outputs(texts), "text embeddings")
        rows = self.bank.rows(texts) if self.bank else None
        return self._refuse(texts) if rows is None else rows

    def prompts(self, labels: str | Sequence[str], templates: str | Sequence[str] | None = None) -> PromptBank:
        """The embeddings of ``labels``, kept for the next call; from the bank where it has them with those templates.

        ``templates`` None: the bank's, or the spec's where there is no bank. Raises ``InputError``.
        """
        labels = as_texts(labels)
        check_labels(labels, "labels")
        own = self.bank.templates if self.bank else self.spec.templates
        wanted = own if templates is None else as_texts(templates)
        key = (tuple(labels), tuple(wanted))
        found = self._sets.get(key)
        if found is None:
            found = self._bank_of(labels, wanted, wanted == own)
            with self._lock:
                while len(self._sets) >= _KEPT_SETS:
                    del self._sets[next(iter(self._sets))]
                self._sets[key] = found
        return found

    def _bank_of(self, labels: list[str], templates: list[str], packed: bool) -> PromptBank:
        rows = self.bank.rows(labels) if self.bank is not None and packed else None
        if rows is not None:
            return PromptBank(labels, rows, templates, self.digest)
        if self.text is None:
            self._refuse(labels, templates)
        return make_bank(labels, templates, self.embed_texts, self.digest)

    def zero_shot(
        self,
        images: object,
        labels: str | Sequence[str] | None = None,
        templates: str | Sequence[str] | None = None,
        top_k: int = 5,
        bgr: bool = False,
    ) -> ZeroShot:
        """Which of ``labels`` each of n pictures shows. ``labels`` None: all of the bank.

        Raises ``InputError`` for pictures that cannot be read, no labels, a label twice, or labels beyond the bank
        where there is no text tower.
        """
        if top_k < 1:
            raise InputError("top_k", found=top_k, expected="1 or more")
        if labels is None:
            if self.bank is None:
                raise InputError("labels", found="none", expected="some, as this model has no prompt bank")
            labels = self.bank.names
        bank = self.prompts(labels, templates)
        return self._rank(self.embed_images(images, bgr), bank.embeddings, bank.names, top_k)

    def choose(
        self,
        image: object,
        candidates: Sequence[str],
        question: str = "",
        template: str = "",
        bgr: bool = False,
    ) -> list[Match]:
        """All ``candidates`` in order of how well they fit ``image``, best first: captions, or answers to ``question``.

        A candidate is embedded as it stands; with a question as "{question} {}". ``template`` says it otherwise, with
        ``{}`` for the candidate and ``{question}`` for the question. Scores are over the candidates. Raises
        ``InputError`` as :meth:`zero_shot`.
        """
        if not is_image(image):
            raise InputError("image", found=type(image).__name__, expected="one picture")
        names = as_texts(candidates)
        check_labels(names, "candidates")
        pattern = template or ("{question} " + PLACE if question else PLACE)
        check_templates([pattern])
        if "{question}" in pattern and not question:
            raise InputError("question", found="none", expected="one, as the template has a place for it")
        # The candidate goes in between, so that braces in the question are left alone.
        parts = [part.replace("{question}", question) for part in pattern.split(PLACE)]
        rows = self.embed_texts([name.join(parts) for name in names])
        return self._rank(self.embed_images(image, bgr), rows, names, len(names))[0]

    def search(self, query: object, index: Index, k: int = 10, bgr: bool = False) -> list[Hit]:
        """The ``k`` entries of ``index`` nearest to ``query``: a text (str), or a picture (Path, bytes, array, Pillow).

        Raises ``InputError`` for an index of another model, and as :meth:`embed_texts` and :meth:`embed_images` do.
        """
        index.check_model(self.digest)
        if isinstance(query, str):
            row = self.embed_texts(query)
        elif is_image(query):
            row = self.embed_images(query, bgr)
        else:
            raise InputError("query", found=type(query).__name__, expected="one text or one picture")
        return index.search(row, k)[0]

    def _rank(self, pictures: Floats, rows: Floats, names: list[str], top_k: int) -> ZeroShot:
        if pictures.shape[1] != rows.shape[1]:
            raise EngineError(
                "embeddings",
                found=f"{pictures.shape[1]} numbers for a picture, {rows.shape[1]} for a text",
                expected="as many",
            )
        cosines: Floats = pictures @ rows.T
        return ZeroShot(cosines, self.spec.scores(cosines), names, top_k)

    def _refuse(self, texts: list[str], templates: list[str] | None = None) -> Floats:
        """Raises: there is no text tower. The message says what there is instead."""
        if self.bank is None:
            held = "neither text tower nor prompt bank"
        else:
            names = ", ".join(repr(name) for name in self.bank.names[:5])
            held = f"no text tower, and a prompt bank of {len(self.bank.names)}: {names}"
            held += ", ..." if len(self.bank.names) > 5 else ""
        known = set(self.bank.names) if self.bank else set()
        missing = next((text for text in texts if text not in known), None)
        raise InputError(
            f"text {missing!r:.60}" if missing is not None else f"templates {templates}",
            found=held,
            expected="a name of the bank, with its own templates",
            fix="Pack the bundle with its text tower for other texts.",
        )

    def __repr__(self) -> str:
        held = [name for name, part in (("text tower", self.text), ("prompt bank", self.bank)) if part is not None]
        return f"DualModel(image tower{''.join(', ' + name for name in held)})"
