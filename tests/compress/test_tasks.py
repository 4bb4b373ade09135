"""The same pipeline, without a change, for embeddings and for tags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.compress import compress
from edgekit.recipe import load_recipe
from edgekit.runtimes.load import load
from edgekit.runtimes.verify import verify
from tests.compress.conftest import BAD, GOOD, sentences

LOOSE = {"max_drop": 1.0, "max_cosine_drop": 1.0, "min_gain": 0.0, "min_speed": 0}
FAST: dict[str, Any] = {
    "max_length": 32,
    "stride": 8,
    "student.layers": 1,
    "threads": 1,
    "stages.teach.min_steps": 1,
    "stages.teach.epochs": 4,
    "stages.vocabulary.gate": LOOSE,
    "stages.distill.epochs": 5,
    "stages.distill.min_steps": 1,
    "stages.distill.gate": LOOSE,
    "stages.prune.enabled": False,
    "stages.quantize.candidates": "dynamic",
    "stages.quantize.calibration_examples": 16,
    "stages.quantize.gate": LOOSE,
}


@pytest.mark.slow
def test_embeddings_from_unlabelled_text(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.tsv").write_text("text\n" + "\n".join(text for text, _ in sentences()), encoding="utf-8")
    recipe = load_recipe(
        None, {"task": "embed", "model": str(tiny_model), "data.train": str(tmp_path / "text.tsv"), **FAST}
    )
    result = compress(recipe, tmp_path / "embed.edge", cache_dir=tmp_path / "cache")
    assert result.stages[-1].metric == "cosine_to_teacher"
    assert result.stages[0].value == pytest.approx(1.0)
    assert result.stages[-1].value > 0.5  # type: ignore[operator]
    vectors = load(result.bundle).embed(["a charming film", "a charming film", "the score is really dull, they say"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert verify(result.bundle).ok


@pytest.mark.slow
def test_tags_of_words(tiny_model: Path, tmp_path: Path) -> None:
    """Which words are judgements: every other word is O."""
    lines = []
    for text, label in sentences():
        words = text.split()
        tags = [f"B-{label}" if word.strip(",") in {*GOOD, *BAD} else "O" for word in words]
        lines.append(json.dumps({"tokens": words, "tags": tags}))
    (tmp_path / "tags.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe = load_recipe(
        None, {"task": "tag", "model": str(tiny_model), "data.train": str(tmp_path / "tags.jsonl"), **FAST}
    )
    result = compress(recipe, tmp_path / "tag.edge", cache_dir=tmp_path / "cache")
    assert result.stages[-1].metric == "token_accuracy" and result.stages[-1].value > 0.9  # type: ignore[operator]
    found = load(result.bundle).tag("a charming film")[0]
    assert [tag.label for tag in found] == ["O", "B-good", "O"]
