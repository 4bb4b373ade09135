"""TFLite files of dual encoders: parity at every length, bytes, signatures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.distill.clip.text import BertTower
from edgekit.errors import StageError
from edgekit.export import ExportReport
from edgekit.export.dual import towers
from edgekit.export.dual.litert import as_classifier, text_lengths
from edgekit.export.litert import export_litert
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact
from tests.distill.clip import helpers
from tests.export import duals
from tests.needs import needs

needs("litert_torch", "ai_edge_litert")


@pytest.mark.parametrize(("text", "lengths"), [("clip", [8, 16]), ("bert", [8, 16]), ("mct", [16])])
def test_a_text_tower_is_made_for_lengths_up_to_its_context(text: str, lengths: list[int]) -> None:
    assert text_lengths(duals.dual("vit", text), [8, 32]) == lengths


def test_a_bert_tower_is_converted_as_a_classifier_that_answers_alike() -> None:
    tower = duals.dual("vit", "bert").text
    assert isinstance(tower, BertTower)
    ids = helpers.ids()
    with torch.inference_mode():
        found = as_classifier(tower)(ids, helpers.mask_of(ids))
        torch.testing.assert_close(found, tower(ids, helpers.mask_of(ids)), atol=1e-5, rtol=1e-4)


# The files themselves are slow tests: each pair takes half a minute. tests/export/test_litert.py makes a quick one.
@pytest.fixture(scope="module", params=[("lite", "clip"), ("mci", "mct"), ("vit", "bert")], ids="-".join)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    return duals.litert(tmp_path_factory, *request.param)


@pytest.mark.slow
def test_each_tower_is_near_torch(made: tuple[Path, ExportReport]) -> None:
    work, report = made
    fixed = artifact.read_spec(work / "lite").fixed_length
    assert report.engine == "litert"
    assert report.cosine_min > 0.999999
    assert report.to_dict()["lengths"] == ([16] if fixed else [8, 16])
    inputs = artifact.read(work / "lite").each_tower()["text"].inputs
    assert inputs == (["input_ids"] if fixed else ["input_ids", "attention_mask"])


@pytest.mark.slow
def test_what_stands_behind_the_mask_is_not_read(made: tuple[Path, ExportReport]) -> None:
    work, _ = made
    if artifact.read_spec(work / "lite").fixed_length:
        pytest.skip("this text tower reads its padding")
    tower = towers.open_tower(work / "lite", "text")
    mask = np.array([[1, 1, 1, 1, 0, 0]], np.int64)
    ids, other = np.array([[118, 3, 4, 119, 0, 0]], np.int64), np.array([[118, 3, 4, 119, 119, 7]], np.int64)
    first = tower({"input_ids": ids, "attention_mask": mask})
    np.testing.assert_allclose(tower({"input_ids": other, "attention_mask": mask}), first, atol=1e-5)


@pytest.mark.slow
def test_another_export_is_refused_beyond_the_bounds_and_has_the_same_bytes(
    made: tuple[Path, ExportReport], tmp_path: Path
) -> None:
    work, _ = made
    with pytest.raises(StageError, match="tower in litert differs"):
        export_litert(work / "torch", tmp_path, ExportConfig(max_abs=1e-12), [8, 32], duals.examples(2))
    for name in (*artifact.read(tmp_path).files, "artifact.json", "task.json"):
        assert (tmp_path / name).read_bytes() == (work / "lite" / name).read_bytes()
