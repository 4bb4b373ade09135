"""INT8 of dual encoders in OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.evaluate import parity
from edgekit.export import export_onnx
from edgekit.export.dual.inputs import Inputs
from edgekit.export.openvino import export_openvino
from edgekit.quantize import QuantizeReport
from edgekit.quantize.backend import Source
from edgekit.quantize.openvino_convolution import OpenVinoConvolutionBackend
from edgekit.recipe.stages import ExportConfig, QuantizeConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.isa import saturates
from tests.export import duals
from tests.needs import needs
from tests.quantize.towers import both, image_answers, reads_to_its_end, same_files

needs("openvino", "nncf")

CONFIG = QuantizeConfig(openvino_candidates=["nncf"])


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("dual-ov")
    source = duals.saved(work / "torch", "lite", "clip")
    export_onnx(source, work / "onnx", ExportConfig(), duals.examples(2))
    export_openvino(source, work / "onnx", work / "ir", ExportConfig(), duals.examples(2))
    return work


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
    expected = image_answers(lite / "ir" / "image", "openvino", lite / "ir", held_out, "fp32")
    near = parity(expected, image_answers(tmp_path, "openvino", lite / "ir", held_out, "w8a8"))
    assert near.centred_mean is not None
    assert near.centred_mean > 0.97
    backend.write(backend.keep_float(quantized, set(backend.matrices())), tmp_path)
    again = parity(expected, image_answers(tmp_path, "openvino", lite / "ir", held_out, "w8a8"))
    assert again.centred_mean is not None
    assert again.centred_mean > max(near.centred_mean, 0.999)


@pytest.fixture(scope="module")
def int8(lite: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, QuantizeReport]:
    out = tmp_path_factory.mktemp("dual-ov-int8")
    return out, both(lite / "ir", lite / "torch", out, CONFIG)


@pytest.mark.slow
def test_both_towers_end_to_end(int8: tuple[Path, QuantizeReport]) -> None:
    out, report = int8
    about = artifact.read(out)
    assert about.engine == "openvino"
    assert {tower.precision for tower in about.each_tower().values()} == {"w8a8"}
    assert {c["name"].split("/")[0] for c in report.candidates} == {"image", "text"}
    reads_to_its_end(out, 8)


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(int8: tuple[Path, QuantizeReport], lite: Path, tmp_path: Path) -> None:
    both(lite / "ir", lite / "torch", tmp_path, CONFIG)
    assert same_files(int8[0], tmp_path)
