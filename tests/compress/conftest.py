"""A job that is real and small: two layers of MiniLM, 240 labelled sentences, a few steps a stage."""

from __future__ import annotations

import itertools
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekit.compress import CompressResult, compress
from edgekit.recipe import load_recipe
from tests.conftest import two_layers
from tests.sharing import once
from tests.small_towers import TOWERS

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
def whole_words(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_model`` with all of MiniLM's words, so that the vocabulary stage has something to cut."""
    return once(tmp_path_factory, "tiny-minilm-whole", lambda folder: two_layers(minilm, folder, 30522))


@pytest.fixture(scope="session")
def small_job(whole_words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file that takes seconds a stage. Shared: do not write to its folder."""
    return once(tmp_path_factory, "small-job", lambda folder: _small_job(whole_words, folder)) / "recipe.yaml"


def _small_job(model: Path, folder: Path) -> None:
    lines = [f"{text}\t{label}" for text, label in sentences()]
    (folder / "data.tsv").write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")
    loose = {"max_drop": 0.6, "min_gain": 1.0, "min_speed": 0}  # INT8 of a model so small may be slower
    recipe = {
        "name": "small",
        "task": "classify",
        "model": str(model),
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
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


CLIP_TRAINING = {"epochs": 1, "min_steps": 1, "batch_size": 64, "learning_rate": 1e-3}
CLIP_LOOSE = {"max_drop": 0.9, "min_gain": 0.0, "min_speed": 0}  # INT8 of towers so small is slower


@pytest.fixture(scope="session")
def clip_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of task clip that takes seconds a stage: rendered pictures. Shared: do not write to its folder."""
    recipe: dict[str, Any] = {
        "name": "pairs",
        "task": "clip",
        "model": "new",
        "max_length": 40,
        "stride": 0,
        "data": {"train": "rendered", "max_examples": 1000},
        "teacher": TOWERS,
        "student": {"towers": {**TOWERS, "image_widths": [16, 32], "text_layers": 1}},
        "threads": 1,
        "bf16": False,
        "engines": ["onnxruntime"],
        "stages": {
            "teach": {**CLIP_TRAINING, "max_examples": 128},
            "distill": {**CLIP_TRAINING, "max_examples": 128, "gate": CLIP_LOOSE},
            "prune": {
                "ffn": 0.3,
                "importance_examples": 16,
                "recovery": {**CLIP_TRAINING, "max_examples": 64},
                "gate": CLIP_LOOSE,
            },
            "quantize": {"calibration_examples": 16, "gate": CLIP_LOOSE},
        },
    }
    path = tmp_path_factory.mktemp("clip") / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def clip_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of the jobs of ``clip_job``: what one test has trained, the next takes over."""
    return tmp_path_factory.mktemp("clip-cache")


@pytest.fixture(scope="session")
def finished(small_job: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CompressResult, Path]:
    """What ``small_job`` gives, and the cache of that run; made once in a run. Shared: write to neither."""

    def make(folder: Path) -> None:
        result = compress(load_recipe(small_job), folder / "small.edge", cache_dir=folder / "cache")
        (folder / "result.pickle").write_bytes(pickle.dumps(result))

    folder = once(tmp_path_factory, "small-job-finished", make)
    return pickle.loads((folder / "result.pickle").read_bytes()), folder / "cache"


@pytest.fixture(scope="module")
def cache(finished: tuple[CompressResult, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the cache that ``small_job`` left, which a module's runs may add to."""
    return Path(shutil.copytree(finished[1], tmp_path_factory.mktemp("copy") / "cache"))
