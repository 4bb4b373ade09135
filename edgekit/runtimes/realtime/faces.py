"""One face for every kind of model: a list of items in, their answers out, in three parts that can be timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from edgekit.errors import InputError
from edgekit.runtimes.answers import Classification, tags
from edgekit.runtimes.model import Model

LARGEST_BATCH = 64


class Face(Protocol):
    """What a stream runs. ``finish`` gives an answer for each item, each as the model's own ``run(item)`` gives it."""

    max_batch: int  # 1: items run alone

    @property
    def engine(self) -> str:
        """Its engine's name."""

    def prepare(self, items: Sequence[Any]) -> Any:
        """Items to what the engine takes."""

    def forward(self, prepared: Any) -> Any:
        """The engine's part."""

    def finish(self, prepared: Any, raw: Any) -> list[Any]:
        """The answers, in the items' order."""


def face_of(model: Any) -> Face:
    """``model`` with the face that streams run.

    Takes a face itself, a ``Model`` (which may run micro-batches), anything with its three parts (a ``DualModel``, a
    guarded model) or anything with ``run(item)``. Raises ``InputError`` for the rest.
    """
    if hasattr(model, "max_batch") and hasattr(model, "forward"):
        return model  # type: ignore[no-any-return]
    if isinstance(model, Model):
        return _Texts(model)
    if all(callable(getattr(model, name, None)) for name in ("prepare", "forward", "finish")):
        return _Parts(model)
    if callable(getattr(model, "run", None)):
        return _Whole(model)
    raise InputError("model", found=type(model).__name__, expected="prepare, forward and finish, or run")


class _Parts:
    """Items one at a time."""

    max_batch = 1

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def engine(self) -> str:
        # Asked each time: a guarded model may go on in another engine.
        return str(getattr(self.model, "engine", ""))

    def prepare(self, items: Sequence[Any]) -> Any:
        return self.model.prepare(items[0])

    def forward(self, prepared: Any) -> Any:
        return self.model.forward(prepared)

    def finish(self, prepared: Any, raw: Any) -> list[Any]:
        return [self.model.finish(prepared, raw)]


class _Texts(_Parts):
    """A model of texts. Batches only where the engine gains by them and a text's answer does not depend on them."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.max_batch = LARGEST_BATCH if model.pipeline.batching else 1

    def prepare(self, items: Sequence[Any]) -> Any:
        if len(items) == 1:
            return items, self.model.prepare(items[0])
        if not all(isinstance(item, str) for item in items):
            raise InputError("batch", found="an item that is a list", expected="a text each")
        return items, self.model.prepare(list(items))

    def forward(self, prepared: Any) -> Any:
        return self.model.forward(prepared[1])

    def finish(self, prepared: Any, raw: Any) -> list[Any]:
        items, inner = prepared
        answer = self.model.finish(inner, raw)
        if self.model.spec.task == "tag":
            texts = items[0] if len(items) == 1 and not isinstance(items[0], str) else items
            labels = self.model.spec.labels
            answer = [
                tags(text, words, scores, labels)
                for text, words, scores in zip(texts, inner.words, answer, strict=True)
            ]
        if len(items) == 1:
            return [answer]
        if isinstance(answer, Classification):
            # Copies: a row that somebody keeps must not keep the whole batch.
            return [Classification(np.array(row[None]), answer.names) for row in answer.logits]
        return [part[None].copy() if isinstance(part, np.ndarray) else [part] for part in answer]


class _Whole(_Parts):
    """A model that only has ``run``: all of its time counts as the model's."""

    def prepare(self, items: Sequence[Any]) -> Any:
        return items[0]

    def forward(self, prepared: Any) -> Any:
        return self.model.run(prepared)

    def finish(self, prepared: Any, raw: Any) -> list[Any]:
        del prepared
        return [raw]
