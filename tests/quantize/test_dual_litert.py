"""INT8 of dual encoders in TFLite."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgekit.evaluate import parity
from edgekit.export import tflite
from edgekit.export.dual.inputs import Inputs
from edgekit.quantize import QuantizeReport
from edgekit.quantize.backend import Source, open_backend
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes import artifact
from tests.export import duals
from tests.needs import needs
from tests.quantize.towers import both, image_answers, reads_to_its_end, same_files

needs("litert_torch", "ai_edge_litert", "ai_edge_quantizer")
pytestmark = pytest.mark.slow  # the fp32 files take half a minute; tests/quantize/test_litert.py is quick

CONFIG = QuantizeConfig(litert_candidates=["dynamic"])


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("dual-lite")
    made, _ = duals.litert(tmp_path_factory, "lite", "clip")
    shutil.copytree(made / "torch", work / "torch")
    shutil.copytree(made / "lite", work / "fp32")
    return work


def int8_weights(path: Path) -> int:
    """Numbers in INT8 constants of the first graph."""
    model = tflite.read(path)
    values = [tflite.constant(model, tensor) for tensor in model.subgraphs[0].tensors]
    return sum(value.size for value in values if value is not None and value.dtype == np.int8)


@pytest.mark.parametrize("candidate", ["dynamic", "static"])
def test_convolutions_are_int8_and_can_be_float_again(lite: Path, tmp_path: Path, candidate: str) -> None:
    feeds = Inputs(lite / "fp32").of("image", duals.examples(8))
    source = Source(lite / "fp32" / "image", lite / "torch", feeds, True, 0, False, "convolution")
    backend = open_backend("litert", source)
    ((_, make),) = backend.variants(candidate)
    plan = make()
    backend.write(plan, tmp_path)
    assert int8_weights(tmp_path / "model.tflite") >= sum(backend.matrices().values())
    held_out = duals.examples(8, seed=99)
    expected = image_answers(lite / "fp32" / "image", "litert", lite / "fp32", held_out, "w8a8")
    near = parity(expected, image_answers(tmp_path, "litert", lite / "fp32", held_out, "w8a8"))
    assert near.centred_mean is not None
    assert near.centred_mean > 0.9
    backend.write(backend.keep_float(plan, set(backend.matrices())), tmp_path)
    again = image_answers(tmp_path, "litert", lite / "fp32", held_out, "w8a8")
    np.testing.assert_allclose(again, expected, atol=1e-4)


@pytest.fixture(scope="module")
def int8(lite: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, QuantizeReport]:
    out = tmp_path_factory.mktemp("dual-lite-int8")
    return out, both(lite / "fp32", lite / "torch", out, CONFIG)


def test_both_towers_end_to_end(int8: tuple[Path, QuantizeReport]) -> None:
    out, report = int8
    about = artifact.read(out)
    assert about.engine == "litert"
    assert {tower.precision for tower in about.each_tower().values()} == {"w8a8"}
    assert {c["name"] for c in report.candidates} == {"image/dynamic", "text/dynamic"}
    reads_to_its_end(out, 6, attention_mask=np.array([[1, 1, 1, 1, 0, 0]], np.int64))


def test_two_runs_give_the_same_bytes(int8: tuple[Path, QuantizeReport], lite: Path, tmp_path: Path) -> None:
    both(lite / "fp32", lite / "torch", tmp_path, CONFIG)
    assert same_files(int8[0], tmp_path)
