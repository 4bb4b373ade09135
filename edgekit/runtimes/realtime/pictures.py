"""The picture half of a dual encoder, for streams: a frame in, its embedding or its labels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.errors import InputError
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.ranking import ZeroShot
from edgekit.runtimes.vectors import Floats, unit
from edgekit.runtimes.vision.pipeline import ROWS


class ImageEmbedder:
    """``Stream(ImageEmbedder(model))``: a picture, in any form that ``decode`` takes, to float32 (1, D), unit length.

    ``bgr``: arrays are BGR, as cameras give them.
    """

    def __init__(self, model: DualModel, bgr: bool = False) -> None:
        self.model, self.bgr = model, bgr
        self.max_batch = ROWS if model.images.rows > 1 else 1
        self._preprocessor = model.images.preprocessor

    @property
    def engine(self) -> str:
        """The model's."""
        return self.model.engine

    def prepare(self, items: Sequence[Any]) -> Floats:
        """n pictures to float32 (n, 3, S, S). Raises ``InputError``."""
        pre = self._preprocessor
        rows = [pre.transform(pre.decode(one, self.bgr and isinstance(one, np.ndarray))) for one in items]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def forward(self, prepared: Floats) -> Floats:
        """The image tower: float32 (n, D)."""
        return self.model.images.forward(prepared)

    def finish(self, prepared: Floats, raw: Floats) -> list[Any]:
        """n times float32 (1, D)."""
        del prepared
        found = unit(raw, "image embeddings")
        return [found] if len(found) == 1 else [row[None].copy() for row in found]


class ZeroShotClassifier(ImageEmbedder):
    """``Stream(ZeroShotClassifier(model, ["a cat", "a dog"]))``: a picture to a :class:`ZeroShot` of one row.

    The labels are embedded once, here; None takes all of the prompt bank. Raises ``InputError`` as
    :meth:`DualModel.zero_shot` does.
    """

    def __init__(
        self,
        model: DualModel,
        labels: str | Sequence[str] | None = None,
        templates: str | Sequence[str] | None = None,
        top_k: int = 5,
        bgr: bool = False,
    ) -> None:
        super().__init__(model, bgr)
        if top_k < 1:
            raise InputError("top_k", found=top_k, expected="1 or more")
        if labels is None:
            if model.bank is None:
                raise InputError("labels", found="none", expected="some, as this model has no prompt bank")
            labels = model.bank.names
        self.top_k, self.labels = top_k, model.prompts(labels, templates)

    def finish(self, prepared: Floats, raw: Floats) -> list[Any]:
        """n times a :class:`ZeroShot` of one row."""
        cosines = [rows @ self.labels.embeddings.T for rows in super().finish(prepared, raw)]
        return [ZeroShot(one, self.model.similarity.scores(one), self.labels.names, self.top_k) for one in cosines]
