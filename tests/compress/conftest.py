"""A job that is real and small: two layers of MiniLM, 240 labelled sentences, a few steps a stage."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml

GOOD = ["charming", "funny", "moving", "clever", "warm", "brilliant"]
BAD = ["dull", "clumsy", "boring", "lifeless", "stale", "awful"]
ALL_LOSSES = {"relations": 0.1, "hidden_mse": 0.1, "attention": 0.01}  # beside those that are on by default
NOUNS = ["film", "plot", "cast", "story", "score", "ending", "script", "scene", "joke", "finale"]


def sentences() -> list[tuple[str, str]]:
    """240 sentences, each with its label."""
    rows = []
    for word, noun in itertools.product(GOOD + BAD, NOUNS):
        label = "good" if word in GOOD else "bad"
        rows.append((f"a {word} {noun}", label))
        rows.append((f"the {noun} is really {word}, they say", label))
    return rows


@pytest.fixture(scope="session")
def small_job(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file that takes seconds a stage. Shared: do not write to its folder."""
    folder = tmp_path_factory.mktemp("job")
    lines = [f"{text}\t{label}" for text, label in sentences()]
    (folder / "data.tsv").write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
    loose = {"max_drop": 0.6, "min_gain": 1.0}
    recipe = {
        "name": "small",
        "task": "classify",
        "model": str(tiny_model),
        "data": {"train": str(folder / "data.tsv"), "validation_fraction": 0.2, "test_fraction": 0.2},
        "max_length": 32,
        "stride": 8,
        "student": {"layers": 1},
        "threads": 1,
        "bf16": False,
        "engines": ["onnxruntime"],
        "stages": {
            "teach": {"epochs": 2, "min_steps": 1},
            "vocabulary": {"gate": loose},
            "distill": {"epochs": 1, "min_steps": 1, "batch_size": 32, "losses": ALL_LOSSES, "gate": loose},
            "prune": {"heads": 0.25, "recovery": {"epochs": 1, "min_steps": 1}, "gate": loose},
            "quantize": {"candidates": ["dynamic"], "calibration_examples": 32, "gate": loose},
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path
