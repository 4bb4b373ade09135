"""TFLite files of dual encoders: parity at every length, bytes, signatures."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import StageError
from edgekit.export import ExportReport
from edgekit.export.dual import towers
from edgekit.export.litert import export_litert
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact
from tests.export import duals

for package in ("litert_torch", "ai_edge_litert"):
    if find_spec(package) is None:
        pytest.skip(f"needs the package {package}: pip install edgekit[compress]", allow_module_level=True)


PAIRS = [
    pytest.param(("lite", "clip"), id="lite-clip"),
    pytest.param(("mci", "mct"), id="mci-mct", marks=pytest.mark.slow),
    pytest.param(("vit", "bert"), id="vit-bert", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=PAIRS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    return duals.litert(tmp_path_factory, *request.param)


def test_each_tower_is_near_torch(made: tuple[Path, ExportReport]) -> None:
    work, report = made
    fixed = artifact.read_spec(work / "lite").fixed_length
    assert report.engine == "litert"
    assert report.cosine_min > 0.999999
    assert report.to_dict()["lengths"] == ([16] if fixed else [8, 16])
    inputs = artifact.read(work / "lite").each_tower()["text"].inputs
    assert inputs == (["input_ids"] if fixed else ["input_ids", "attention_mask"])


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
def test_two_exports_give_the_same_bytes(made: tuple[Path, ExportReport], tmp_path: Path) -> None:
    work, _ = made
    export_litert(work / "torch", tmp_path, ExportConfig(), [8, 32], duals.examples(2))
    for name in (*artifact.read(tmp_path).files, "artifact.json", "task.json"):
        assert (tmp_path / name).read_bytes() == (work / "lite" / name).read_bytes()


@pytest.mark.slow
def test_a_file_beyond_the_bounds_is_refused(tmp_path: Path) -> None:
    source = duals.saved(tmp_path / "torch", "lite", "clip")
    with pytest.raises(StageError, match="tower in litert differs"):
        export_litert(source, tmp_path / "out", ExportConfig(max_abs=1e-12), [], duals.examples(2))
