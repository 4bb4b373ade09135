"""What the tests of dual encoders hold INT8 towers to, whichever engine they are for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle.dual import Tower
from edgekit.evaluate import parity
from edgekit.export.dual import towers
from edgekit.export.dual.inputs import Inputs
from edgekit.quantize import QuantizeReport, quantize
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes import artifact
from tests.export import duals


class Nearness:
    """1 - mean cosine to the fp32 embeddings of both sides, centred; what it was asked is kept."""

    def __init__(self, folder: Path, examples: Sequence[duals.Example]) -> None:
        self.pictures = [picture for picture, _ in examples]
        self.captions = [caption for _, caption in examples]
        prepared, self.fp32, self.asked = Inputs(folder), {}, []
        for name in towers.NAMES:
            tower = towers.open_tower(folder, name)
            rows = np.concatenate([tower(feed) for feed in prepared.of(name, examples)])
            self.fp32[name] = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def drop(self, images: np.ndarray, texts: np.ndarray) -> tuple[float, dict[str, Any]]:
        near = [parity(self.fp32[n], x).centred_mean for n, x in (("image", images), ("text", texts))]
        self.asked.append((np.array_equal(images, self.fp32["image"]), np.array_equal(texts, self.fp32["text"])))
        return float(1 - np.mean([1.0 if x is None else x for x in near])), {"pictures": len(images)}


def both(fp32: Path, torch_folder: Path, out: Path, config: QuantizeConfig) -> QuantizeReport:
    """Quantize both towers of ``fp32`` into ``out``, within any bound that answers of use keep."""
    judge = Nearness(fp32, duals.examples(5, seed=11))
    return quantize(fp32, torch_folder, out, config, duals.examples(8), judge, bound=0.5)


def same_files(a: Path, b: Path) -> bool:
    """Whether two artifacts hold the same bytes."""
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in artifact.read(a).files)


def image_answers(folder: Path, engine: str, fp32: Path, examples: list[duals.Example], precision: str) -> np.ndarray:
    """What the image tower in ``folder`` gives for the pictures of ``examples``, prepared as ``fp32`` says."""
    tower = towers.OpenTower(folder, engine, Tower("", precision, ["pixel_values"], "image_embeddings"), 1)
    return np.concatenate([tower(feed) for feed in Inputs(fp32).of("image", examples)])


def reads_to_its_end(folder: Path, length: int, **mask: np.ndarray) -> None:
    """The text tower gives the same whatever follows a text's end, and something else for another text."""
    tower = towers.open_tower(folder, "text")
    texts = ([118, 3, 4, 119, 7, 8, 9, 10], [118, 3, 4, 119, 90, 20, 1, 2], [118, 50, 4, 119, 7, 8, 9, 10])
    first, other, before = (tower({"input_ids": np.array([ids[:length]], np.int64), **mask}) for ids in texts)
    np.testing.assert_allclose(other, first, atol=1e-5)
    assert np.abs(before - first).max() > 1e-2
