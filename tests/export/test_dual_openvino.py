"""OpenVINO files of dual encoders: parity, bytes, errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import StageError
from edgekit.export import ExportReport, export_onnx
from edgekit.export.dual import towers
from edgekit.export.openvino import export_openvino
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact
from tests.distill.clip import helpers
from tests.export import duals
from tests.needs import needs

needs("openvino", extra="openvino")


@pytest.fixture(scope="module", params=[("lite", "clip"), ("mci", "mct"), ("vit", "bert")], ids="-".join)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    work = tmp_path_factory.mktemp("dual-ir")
    source = duals.saved(work / "torch", *request.param)
    export_onnx(source, work / "onnx", ExportConfig(), duals.examples(2))
    return work, export_openvino(source, work / "onnx", work / "ir", ExportConfig(), duals.examples(4))


def test_each_tower_is_near_torch(made: tuple[Path, ExportReport]) -> None:
    work, report = made
    assert report.engine == "openvino"
    assert report.cosine_min > 0.999999
    assert set(report.to_dict()["towers"]) == {"image", "text"}
    files = [work / "ir" / name for name in artifact.read(work / "ir").files]
    assert {f.name for f in files} == {"model.xml", "model.bin"}
    assert report.size_bytes == sum(f.stat().st_size for f in files)


def test_batch_and_length_are_free(made: tuple[Path, ExportReport]) -> None:
    work, _ = made
    image, text = (towers.open_tower(work / "ir", name) for name in towers.NAMES)
    assert image({"pixel_values": helpers.pictures(5).numpy()}).shape == (5, 24)
    ids = helpers.ids(4)
    assert text({"input_ids": ids.numpy(), "attention_mask": helpers.mask_of(ids).numpy()}).shape == (4, 24)


def test_two_exports_give_the_same_bytes(made: tuple[Path, ExportReport], tmp_path: Path) -> None:
    work, _ = made
    export_openvino(work / "torch", work / "onnx", tmp_path, ExportConfig(), duals.examples(2))
    for name in (*artifact.read(tmp_path).files, "artifact.json", "task.json"):
        assert (tmp_path / name).read_bytes() == (work / "ir" / name).read_bytes()


def test_a_file_beyond_the_bounds_is_refused(made: tuple[Path, ExportReport], tmp_path: Path) -> None:
    work, _ = made
    with pytest.raises(StageError, match="tower in openvino differs"):
        export_openvino(work / "torch", work / "onnx", tmp_path, ExportConfig(max_abs=1e-12), duals.examples(2))
