"""The towers of a dual encoder's artifact, one by one, in their engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.dual import Tower
from edgekit.runtimes import artifact, engines

NAMES = artifact.TOWERS
OUTPUTS = {"image": "image_embeddings", "text": "text_embeddings"}
PIXELS, IDS, MASK = "pixel_values", "input_ids", "attention_mask"

Feed = dict[str, NDArray[Any]]


class OpenTower:
    """A tower's file in its engine. Called with a feed, which may hold more than its inputs: float32 (B, D)."""

    def __init__(self, folder: Path, engine: str, tower: Tower, threads: int) -> None:
        able = [name for name in engines.readers(engine) if engines.installed(name)]
        path = Path(folder) / artifact.FILES[engine][0]
        self.inputs = tuple(tower.inputs)
        self.engine = engines.create(
            able[0] if able else engine, path, threads, self.inputs, tower.output, tower.precision
        )

    def __call__(self, feed: Feed) -> NDArray[np.float32]:
        if len(self.inputs) == 1:
            return self.engine.run_one(feed[self.inputs[0]])
        return self.engine.run(feed[IDS], feed[MASK])


def open_tower(folder: Path, name: str, threads: int = 1) -> OpenTower:
    """Tower ``name`` of the artifact in ``folder``. Raises EngineError."""
    about = artifact.read(Path(folder))
    return OpenTower(Path(folder) / name, about.engine, about.each_tower()[name], threads)


def size_bytes(folder: Path, name: str) -> int:
    """Bytes on disk of the files of tower ``name``."""
    files = artifact.FILES[artifact.read(Path(folder)).engine]
    return sum((Path(folder) / name / file).stat().st_size for file in files)
