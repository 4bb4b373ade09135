"""Two bundles of a few kilobytes that answer differently, and slots that hold the first of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import edgekit
from tests.runtimes import tiny


class Pair(NamedTuple):
    """An older and a newer bundle, and the logits that each gives for ``tiny.TEXTS``."""

    old: Path
    new: Path
    answers: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Shared: do not write to them."""
    folder = tmp_path_factory.mktemp("pair")
    made = {name: tiny.bundle(folder / f"{name}.edge", seed, name=name) for seed, name in enumerate(("old", "new"))}
    answers = {name: edgekit.load(path, threads=1).logits(tiny.TEXTS) for name, path in made.items()}
    return Pair(made["old"], made["new"], answers)
