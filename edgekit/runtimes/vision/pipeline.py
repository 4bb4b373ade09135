"""Pictures to the image tower's outputs, a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np

from edgekit.runtimes.engines import Engine
from edgekit.runtimes.vision.preprocess import Floats, ImagePreprocessor, as_images

ROWS = 8  # pictures in memory and in the engine at once: at 224 pixels 5 MB of values


class ImagePipeline:
    """Ties an :class:`ImagePreprocessor` to ``forward``: float32 (B, 3, S, S) -> float32 (B, D).

    ``batching`` False: every picture goes alone, for models whose answer depends on the pictures beside it.
    The parts are open so that they can be timed: ``preprocessor.decode``, ``preprocessor.transform``, ``forward``.
    """

    def __init__(
        self, preprocessor: ImagePreprocessor, forward: Callable[[Floats], Floats], batching: bool = True
    ) -> None:
        self.preprocessor, self.forward = preprocessor, forward
        self.rows = ROWS if batching else 1

    @classmethod
    def of_engine(cls, preprocessor: ImagePreprocessor, engine: Engine) -> ImagePipeline:
        """With a loaded image tower, whose single input is the pixels."""
        return cls(preprocessor, engine.run_one, engine.batching)

    def outputs(self, images: object, bgr: bool = False) -> Floats:
        """One picture or n (an iterable is read as they are needed) to float32 (n, D). ``bgr``: arrays are BGR.

        Raises ``InputError`` naming the picture.
        """
        pre, size, parts = self.preprocessor, self.preprocessor.spec.size, []
        waiting = as_images(images)
        while rows := list(islice(waiting, self.rows)):
            values = np.empty((len(rows), 3, size, size), np.float32)
            for (name, image), row in zip(rows, values, strict=True):
                pre.transform(pre.decode(image, bgr and isinstance(image, np.ndarray), name), row)
            parts.append(self.forward(values))
        if not parts:
            return self.forward(np.zeros((1, 3, size, size), np.float32))[:0]  # the tower knows its width
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
