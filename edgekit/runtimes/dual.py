"""Dual encoders (CLIP, SigLIP) on the device: pictures and texts in one space."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from edgekit.bundle.dual import DualSpec, Tower
from edgekit.bundle.records import TaskSpec
from edgekit.errors import EngineError, InputError
from edgekit.runtimes.context import CONTEXT, ClipTextPipeline
from edgekit.runtimes.engines.placement import Placement
from edgekit.runtimes.index import Hit, Index
from edgekit.runtimes.preprocess import Ids, as_texts
from edgekit.runtimes.prompts import PLACE, PromptBank, check_labels, check_templates, make_bank
from edgekit.runtimes.ranking import Match, ZeroShot
from edgekit.runtimes.vectors import Floats, unit
from edgekit.runtimes.vision.pipeline import ImagePipeline
from edgekit.runtimes.vision.preprocess import is_image

__all__ = ["DualModel", "DualPrepared", "DualSpec", "Loaded"]

_KEPT_SETS = 16  # sets of labels whose embeddings are kept: a camera asks the same ones at every frame


class Loaded(NamedTuple):
    """Where a model came from: engine, its version, the main file's name, precision, threads, its towers.

    ``placements``: where each tower's nodes run, of engines that tell.
    """

    engine: str = ""
    engine_version: str = ""
    file: str = ""
    precision: str = "fp32"
    threads: int = 1
    towers: Mapping[str, Tower] = MappingProxyType({})
    placements: Mapping[str, Placement] = MappingProxyType({})


UNSTATED = Loaded()


class DualPrepared(NamedTuple):
    """One example on its way to the towers: pixels float32 (1, 3, S, S); ids and mask int64 (1, T) or None."""

    pixel_values: Floats
    tokens: tuple[Ids, Ids] | None


class DualModel:
    """An image tower, perhaps a text tower and a prompt bank, and what can be asked of them.

    ``spec``: the task, without one CLIP's own scores and templates; ``digest``: a hash of both towers' files, by which
    indexes and banks are known; a bank of another model is refused. Without ``text``, whatever is not a name of the
    bank raises ``InputError``; without both, every text does. Embeddings are float32, unit length. ``bgr`` says of
    arrays that their channels are BGR, as cameras give them. A text is a ``str``; a picture's path, where a text may
    stand too (:meth:`search`), is a ``pathlib.Path``.

    As :func:`edgekit.load` gives it, it also has ``engine``, ``engine_version``, ``file`` (the image tower's),
    ``precision``, ``threads``, ``towers`` ("image" and "text"), and in onnxruntime ``placements``: where each tower's
    nodes run. An example, for :meth:`run` and its three parts, is a picture and a caption.
    """

    def __init__(
        self,
        images: ImagePipeline,
        text: ClipTextPipeline | None,
        spec: TaskSpec | None = None,
        bank: PromptBank | None = None,
        digest: str = "",
        loaded: Loaded = UNSTATED,
    ) -> None:
        if bank is not None and bank.model and digest and bank.model != digest:
            raise InputError(
                "prompt bank", found=f"one of model {bank.model:.12}", expected=f"{digest:.12}, this model"
            )
        if spec is None:
            context = CONTEXT if text is None else text.tokenizer.context
            spec = TaskSpec("clip", [], context, 0, pictures=images.preprocessor.spec, similarity=DualSpec())
        if spec.similarity is None:
            raise InputError("spec", found=f"task {spec.task}", expected="clip")
        self.images, self.text, self.spec = images, text, spec
        self.similarity = spec.similarity
        self.bank, self.digest = bank, digest
        self.engine, self.engine_version, self.file, self.precision, self.threads, self.towers = loaded[:6]
        self.placements = loaded.placements
        self._sets: dict[tuple[tuple[str, ...], tuple[str, ...]], PromptBank] = {}
        self._lock = threading.Lock()

    def run(self, example: tuple[object, str | None]) -> tuple[Floats, Floats]:
        """One inference: a picture and its caption to their embeddings, float32 (1, D) each, unit length.

        Without a text tower, or a caption (None), the second is (0, D). Raises ``InputError``, ``EngineError``.
        """
        prepared = self.prepare(example)
        return self.finish(prepared, self.forward(prepared))

    def prepare(self, example: tuple[object, str | None]) -> DualPrepared:
        """First part: decode, resize and normalise the picture; tokenize the caption."""
        picture, caption = example
        pre = self.images.preprocessor
        pixels = pre.transform(pre.decode(picture))
        if self.text is None or caption is None:
            return DualPrepared(pixels, None)
        return DualPrepared(pixels, self.text.prepare([caption], quiet=True))

    def forward(self, prepared: DualPrepared) -> tuple[Floats, Floats]:
        """Second part: both towers' outputs."""
        image = self.images.forward(prepared.pixel_values)
        if self.text is None or prepared.tokens is None:
            return image, image[:0]
        return image, self.text.forward(*prepared.tokens)

    def finish(self, prepared: DualPrepared, raw: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
        """Third part: unit length."""
        return unit(raw[0], "image embeddings"), unit(raw[1], "text embeddings")

    def raw(self, examples: Sequence[tuple[object, str]]) -> dict[str, list[Floats]]:
        """The outputs of "image" and "text" for ``examples``: float32 (D,) each, as the engine gave them."""
        found = {"image": list(self.images.outputs([picture for picture, _ in examples]))}
        if self.text is not None:
            found["text"] = list(self.text.outputs([text for _, text in examples], quiet=True))
        return found

    def token_ids(self, text: str) -> list[list[int]]:
        """The ids that ``text`` becomes, as one row without padding; none without a text tower."""
        return [] if self.text is None else [self.text.tokenizer.ids(text)]

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
        own = self.bank.templates if self.bank else self.similarity.templates
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
        return ZeroShot(cosines, self.similarity.scores(cosines), names, top_k)

    def _refuse(self, texts: list[str], templates: list[str] | None = None) -> Floats:
        """Raises: there is no text tower. The message says what there is instead."""
        if self.bank is None:
            held, wanted = "neither text tower nor prompt bank", "a model that knows texts"
        else:
            names = ", ".join(repr(name) for name in self.bank.names[:5])
            wanted = "a name of the bank, with its own templates"
            held = f"no text tower, and a prompt bank of {len(self.bank.names)}: {names}"
            held += ", ..." if len(self.bank.names) > 5 else ""
        known = set(self.bank.names) if self.bank else set()
        missing = next((text for text in texts if text not in known), None)
        raise InputError(
            f"text {missing!r:.60}" if missing is not None else f"templates {templates}",
            found=held,
            expected=wanted,
            fix="Pack the bundle with its text tower for other texts."
            if self.bank is not None
            else "Pack the bundle with its text tower, or labels with `prompts` in the recipe.",
        )

    def __repr__(self) -> str:
        held = [name for name, part in (("text tower", self.text), ("prompt bank", self.bank)) if part is not None]
        place = f"{self.file}, {self.engine}, {self.precision}: " if self.engine else ""
        return f"DualModel({place}image tower{''.join(', ' + name for name in held)})"
