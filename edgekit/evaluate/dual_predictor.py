"""Dual encoders in the device runtime behind the face that the gate knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.data.pictures import PictureTextSet
from edgekit.evaluate.dual import answered
from edgekit.evaluate.outputs import Outputs
from edgekit.progress import Progress, Silent, track

if TYPE_CHECKING:
    from edgekit.data import HeldOut
    from edgekit.runtimes.dual import DualModel

SLICE = 256  # pictures or captions between two moves of the progress bar


class DualRuntimePredictor:
    """A dual encoder's files in the device runtime; ``size_bytes`` is the caller's count of the files it needs."""

    def __init__(self, model: DualModel, size_bytes: int) -> None:
        self.model = model
        self._size_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def predict(self, data: HeldOut, progress: Progress = Silent()) -> Outputs:
        """Embeddings of all pictures, float32 (P, D), and of all captions, (C, D), unit length.

        Pictures are opened as they are needed. Without a text tower a cached teacher's embeddings stand for captions;
        raises ``InputError`` where ``data`` has none.
        """
        assert isinstance(data, PictureTextSet), "a dual encoder"
        name = f"{self.model.engine} {self.model.precision}"
        images = [
            self.model.embed_images(data.pictures.open(row) for row in rows)
            for rows in _slices(len(data), progress, f"pictures in {name}")
        ]
        if self.model.text is None and data.targets is not None:
            return answered(np.concatenate(images), images[0][:0], data)
        texts = [
            self.model.embed_texts([data.captions[row] for row in rows])
            for rows in _slices(len(data.captions), progress, f"captions in {name}")
        ]
        return np.concatenate(images), np.concatenate(texts)

    def answer(self, example: Any) -> Any:
        """One picture uint8 (H, W, 3) and one caption to their embeddings: what latency is measured on."""
        return self.model.run(example)


def _slices(count: int, progress: Progress, label: str) -> Iterable[range]:
    starts = range(0, count, SLICE)
    for start in track(progress, label, starts, len(starts)):
        yield range(start, min(start + SLICE, count))
