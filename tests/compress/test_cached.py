"""A teacher that was run elsewhere, through the whole pipeline: pictures alone, labels as embeddings, no text tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.bundle import open_bundle
from edgekit.cli.main import run
from edgekit.compress import compress
from edgekit.errors import InputError
from edgekit.recipe import Recipe
from edgekit.report import read
from edgekit.runtimes.load import load
from edgekit.runtimes.verify import verify
from tests.compress.conftest import CLIP_LOOSE

DIM = 24
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 210), "grey": (128, 128, 128)}
TURN = np.random.default_rng(9).normal(size=(4, DIM))


def told(colours: np.ndarray) -> np.ndarray:
    """What the teacher says of colours (n, 3) in 0 to 255: float32 (n, DIM), three numbers long, not one."""
    rows = np.concatenate([colours / 128 - 1, np.full((len(colours), 1), 0.3)], axis=1) @ TURN
    return (3 * rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 pictures near a colour, a caption each, what the teacher said of 156, and what it said of the labels."""
    folder = tmp_path_factory.mktemp("cached")
    random = np.random.default_rng(0)
    lines, names, seen = ["image\tcaption"], [], []
    for i in range(160):
        word = list(COLOURS)[i % 4]
        colour = np.clip(np.array(COLOURS[word]) + random.normal(0, 25, 3), 0, 255)
        pixels = (colour + random.normal(0, 6, (40, 44, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append(f"{i}.png\t{word} thing {i}")
        if i >= 4:
            names.append(f"{i}.png")
            seen.append(pixels.mean((0, 1)))
    (folder / "captions.tsv").write_text("\n".join(lines), "utf-8")
    np.savez(folder / "pictures.npz", names=np.array(names), embeddings=told(np.array(seen)), model=np.array("far"))
    bank = told(np.array(list(COLOURS.values()), np.float64))
    np.savez(folder / "prompts.npz", names=np.array(list(COLOURS)), embeddings=bank, model=np.array("far"))
    return folder


@pytest.mark.slow
def test_pictures_follow_embeddings_that_were_computed_elsewhere(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    towers = {
        **{"image": "mci", "image_size": 32, "image_widths": [16, 32], "image_depths": [1, 1]},
        **{"embed_dim": DIM, "context_length": 16, "text": "none"},
    }
    training = {"epochs": 12, "min_steps": 1, "batch_size": 16, "learning_rate": 3e-3, "patience": 12}
    raw: dict[str, Any] = {
        **{"name": "colours", "task": "clip", "model": "new", "max_length": 16, "stride": 0, "threads": 1},
        **{"bf16": False, "engines": ["onnxruntime"], "precision": ["w8a8", "fp32"]},
        "data": {
            "train": {"path": str(place / "captions.tsv"), "embeddings": str(place / "pictures.npz")},
            **{"validation_fraction": 0.2, "test_fraction": 0.2},
        },
        "teacher": towers,
        "student": {"towers": {**towers, "image_widths": [8, 32]}},
        "prompts": {"embeddings": str(place / "prompts.npz")},
        "stages": {
            "teach": {**training, "train": "heads", "augment": {"flip": 0.5}},
            "distill": {**training, "augment": {"flip": 0.5, "crop": 0.7}, "gate": CLIP_LOOSE},
            "prune": {"ffn": 0.2, "importance_examples": 16, "recovery": training, "gate": CLIP_LOOSE},
            "quantize": {"calibration_examples": 32, "gate": CLIP_LOOSE},
        },
    }
    result = compress(Recipe.model_validate(raw), tmp_path / "x.edge", cache_dir=tmp_path / "cache")
    assert [record.stage for record in result.stages] == ["teach", "distill", "prune", "export", "quantize", "pack"]
    manifest = open_bundle(result.bundle).manifest
    assert {(model.precision, *model.towers) for model in manifest.models} == {("fp32", "image"), ("w8a8", "image")}
    assert any("4 pictures dropped" in rule for rule in manifest.data["rules"])
    held = {entry.path for entry in manifest.files}
    assert "prompts.safetensors" in held and not any("text" in path or "tokenizer" in path for path in held)
    report = verify(result.bundle)
    assert report.ok, report
    expected = told(np.array(list(COLOURS.values()), np.float64)) / 3
    shown = [np.full((30, 40, 3), colour, np.uint8) for colour in COLOURS.values()]
    for model_file in manifest.models:
        model = load(result.bundle, file=model_file.path)
        assert model.bank is not None and model.bank.names == list(COLOURS)
        np.testing.assert_allclose(model.bank.embeddings, expected, atol=1e-5)
        assert [one[0].name for one in model.zero_shot(shown, top_k=1)] == list(COLOURS)
        with pytest.raises(InputError, match=r"no text tower, and a prompt bank of 4.*'red'"):
            model.zero_shot(shown, ["a purple thing", "a red thing"])
    found = read(result.bundle)
    assert found["prompts"] == {"labels": list(COLOURS), "templates": ["a photo of a {}."], "text_tower": False}
    assert run(["report", str(result.bundle), "-o", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "recall_at_1" in page or "R@1" in page
    assert "red" in page and "No text tower is packed" in page
