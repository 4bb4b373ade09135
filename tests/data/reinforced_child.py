"""A small reinforced set and its teachers; run with a folder and n, it writes the set and dies at the n-th moment."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.data.pictures import ArrayPictures, PictureTextSet
from edgekit.data.reinforced import write_store
from edgekit.data.store import ReinforceSettings

SETTINGS = ReinforceSettings(augmentations=3, size=12, shard=4, dtype="float32")


class Fake:
    """A teacher whose answers depend on each input alone, and can be worked out again."""

    def __init__(self, name: str, width: int) -> None:
        self.name, self.sha256, self.width = name, hashlib.sha256(name.encode()).hexdigest(), width
        self.asked, self.scale = 0, 20.0

    def _of(self, content: bytes) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(self.name.encode() + content).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(self.width).astype(np.float32)

    def embed_images(self, batch: np.ndarray) -> np.ndarray:
        assert batch.dtype == np.uint8 and batch.shape[1:] == (12, 12, 3)
        self.asked += 1
        return np.stack([self._of(picture.tobytes()) for picture in batch])

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        self.asked += 1
        return np.stack([self._of(text.encode()) for text in texts])


def example_set(count: int = 10) -> PictureTextSet:
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(count)]
    counts = [1 + row % 3 for row in range(count)]
    captions = [f"caption {number} of {row}" for row in range(count) for number in range(counts[row])]
    return PictureTextSet(ArrayPictures.of(arrays), captions, np.repeat(np.arange(count), counts))


def teachers() -> list[Fake]:
    return [Fake("wide", 6), Fake("small", 3)]


def main(folder: str, event: int) -> None:
    """Write the set; kill -9 before or after the n-th call of a teacher, of fsync or of replace."""
    left = event

    def fatal(call: Callable[..., Any], after: bool) -> Callable[..., Any]:
        def wrapped(*given: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*given)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return wrapped

    every = teachers()
    for teacher in every:
        teacher.embed_images, teacher.embed_texts = (  # type: ignore[method-assign]
            fatal(teacher.embed_images, False),
            fatal(teacher.embed_texts, True),
        )
    os.fsync, os.replace = fatal(os.fsync, False), fatal(os.replace, event % 2 == 0)
    write_store(folder, example_set(), every, SETTINGS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
