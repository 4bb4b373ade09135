"""The artifact of a dual encoder: a folder for each tower, and what a stage after this one must know of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import ModelError
from edgekit.runtimes import artifact, engines

NAMES = ("image", "text")
OUTPUTS = {"image": "image_embeddings", "text": "text_embeddings"}
PIXELS, IDS, MASK = "pixel_values", "input_ids", "attention_mask"

Feed = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Tower:
    """``inputs``: the file's, pixels, or ids, or ids and mask; ``output``: what its embeddings are called."""

    precision: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class DualArtifact:
    """What artifact.json says of a dual encoder. ``precision``: of the towers that are not fp32."""

    engine: str
    precision: str
    towers: dict[str, Tower]

    def files(self) -> list[str]:
        """Paths of all model files in the folder, POSIX, each tower's main one first."""
        return [f"{name}/{file}" for name in self.towers for file in artifact.FILES[self.engine]]


def write(folder: Path, spec: dict[str, Any], about: DualArtifact) -> None:
    """artifact.json and task.json."""
    for name, value in (("task.json", spec), (artifact.NAME, asdict(about))):
        (folder / name).write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", "utf-8")


def is_dual_artifact(folder: Path) -> bool:
    """Whether ``folder`` holds the towers of a dual encoder for an engine."""
    path = Path(folder) / artifact.NAME
    return path.is_file() and "towers" in json.loads(path.read_text("utf-8"))


def read(folder: Path) -> DualArtifact:
    """artifact.json of ``folder``. Raises ModelError where it is none of a dual encoder."""
    about = artifact.read(folder)
    raw = json.loads((Path(folder) / artifact.NAME).read_text("utf-8")).get("towers")
    if not isinstance(raw, dict) or not raw or not set(raw) <= set(NAMES):
        raise ModelError(f"{Path(folder) / artifact.NAME}: towers", found=repr(raw)[:80], expected="image, text")
    towers = {
        name: Tower(raw[name]["precision"], tuple(raw[name]["inputs"]), raw[name]["output"])
        for name in NAMES
        if name in raw
    }
    return DualArtifact(about.engine, about.precision, towers)


def read_spec(folder: Path) -> dict[str, Any]:
    """task.json of ``folder``."""
    spec: dict[str, Any] = json.loads((Path(folder) / "task.json").read_text("utf-8"))
    return spec


class OpenTower:
    """A tower's file in its engine. Called with a feed, which may hold more than its inputs: float32 (B, D)."""

    def __init__(self, folder: Path, engine: str, tower: Tower, threads: int) -> None:
        able = [name for name in engines.readers(engine) if engines.installed(name)]
        path = Path(folder) / artifact.FILES[engine][0]
        self.inputs = tower.inputs
        self.engine = engines.create(
            able[0] if able else engine, path, threads, tower.inputs, tower.output, tower.precision
        )

    def __call__(self, feed: Feed) -> NDArray[np.float32]:
        if len(self.inputs) == 1:
            return self.engine.run_one(feed[self.inputs[0]])
        return self.engine.run(feed[IDS], feed[MASK])


def open_tower(folder: Path, name: str, threads: int = 1) -> OpenTower:
    """Tower ``name`` of the artifact in ``folder``. Raises EngineError."""
    about = read(folder)
    return OpenTower(Path(folder) / name, about.engine, about.towers[name], threads)


def size_bytes(folder: Path, name: str) -> int:
    """Bytes on disk of the files of tower ``name``."""
    files = artifact.FILES[artifact.read(folder).engine]
    return sum((Path(folder) / name / file).stat().st_size for file in files)
