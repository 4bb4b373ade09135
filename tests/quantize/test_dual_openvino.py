"""INT8 of dual encoders in OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle.dual import Tower
from edgekit.evaluate import parity
from edgekit.export import export_onnx
from edgekit.export.dual import towers
from edgekit.export.dual.inputs import Inputs
from edgekit.export.openvino import export_openvino
from edgekit.quantize import quantize
from edgekit.quantize.backend import Source
from edgekit.quantize.openvino_convolution import OpenVinoConvolutionBackend
from edgekit.recipe.stages import ExportConfig, QuantizeConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.isa import saturates
from tests.export import duals
from tests.quantize.test_dual import Nearness

pytest.importorskip("openvino", reason="needs the package openvino: pip install edgekit[openvino]")
pytest.importorskip("nncf", reason="needs the package nncf: pip install edgekit[compress]")


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("dual-ov")
    source = duals.saved(work / "torch", "lite", "clip")
    export_onnx(source, work / "onnx", ExportConfig(), duals.examples(2))
    export_openvino(source, work / "onnx", work / "ir", ExportConfig(), duals.examples(2))
    return work


def answers(folder: Path, artifact: Path, examples: list[duals.Example], precision: str = "w8a8") -> np.ndarray:
    tower = towers.OpenTower(folder, "openvino", Tower("", precision, ["pixel_values"], "image_embeddings"), 1)
    return np.concatenate([tower(feed) for feed in Inputs(artifact).of("image", examples)])


def test_convolutions_are_int8_near_fp32_and_can_be_float_again(lite: Path, tmp_path: Path) -> None:
    feeds = Inputs(lite / "ir").of("image", duals.examples(8))
    source = Source(lite / "ir" / "image", lite / "torch", feeds, True, 0, saturates(), "convolution")
    backend = OpenVinoConvolutionBackend(source)
    found = dict(backend.variants("nncf"))
    assert len(found) == 2
    assert dict(backend.variants("dynamic")) == {}
    quantized = next(iter(found.values()))()
    backend.write(quantized, tmp_path)
    constants = [node for node in quantized.get_ops() if node.get_type_name() == "Constant"]
    int8 = sum(int(np.prod(node.shape)) for node in constants if node.get_element_type().get_type_name() == "i8")
    assert int8 == sum(backend.matrices().values())
    held_out = duals.examples(10, seed=99)
    expected = answers(lite / "ir" / "image", lite / "ir", held_out, "fp32")
    near = parity(expected, answers(tmp_path, lite / "ir", held_out))
    assert near.centred_mean is not None
    assert near.centred_mean > 0.97
    backend.write(backend.keep_float(quantized, set(backend.matrices())), tmp_path)
    again = parity(expected, answers(tmp_path, lite / "ir", held_out))
    assert again.centred_mean is not None
    assert again.centred_mean > max(near.centred_mean, 0.999)


def test_both_towers_end_to_end(lite: Path, tmp_path: Path) -> None:
    judge = Nearness(lite / "ir", duals.examples(5, seed=11))
    config = QuantizeConfig(openvino_candidates=["nncf"])
    for out in (tmp_path / "a", tmp_path / "b"):
        report = quantize(lite / "ir", lite / "torch", out, config, duals.examples(8), judge, bound=0.5)
    about = artifact.read(tmp_path / "a")
    assert about.engine == "openvino"
    assert {tower.precision for tower in about.each_tower().values()} == {"w8a8"}
    assert {c["name"].split("/")[0] for c in report.candidates} == {"image", "text"}
    for name in about.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    tower = towers.open_tower(tmp_path / "a", "text")
    ids = np.array([[118, 3, 4, 119, 7, 8, 9, 10]], np.int64)
    other = np.array([[118, 3, 4, 119, 90, 20, 1, 2]], np.int64)
    before = np.array([[118, 50, 4, 119, 7, 8, 9, 10]], np.int64)
    np.testing.assert_allclose(tower({"input_ids": ids}), tower({"input_ids": other}), atol=1e-5)
    assert np.abs(tower({"input_ids": ids}) - tower({"input_ids": before})).max() > 1e-2
