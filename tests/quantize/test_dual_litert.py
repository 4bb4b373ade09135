"""INT8 of dual encoders in TFLite."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle.dual import Tower
from edgekit.evaluate import parity
from edgekit.export import tflite
from edgekit.export.dual import towers
from edgekit.export.dual.inputs import Inputs
from edgekit.quantize import quantize
from edgekit.quantize.backend import Source
from edgekit.quantize.litert import LiteRtBackend
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes import artifact
from tests.export import duals
from tests.quantize.test_dual import Nearness

for package in ("litert_torch", "ai_edge_litert", "ai_edge_quantizer"):
    if find_spec(package) is None:
        pytest.skip(f"needs the package {package}: pip install edgekit[compress]", allow_module_level=True)


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


def answers(folder: Path, artifact: Path, examples: list[duals.Example]) -> np.ndarray:
    tower = towers.OpenTower(folder, "litert", Tower("", "w8a8", ["pixel_values"], "image_embeddings"), 1)
    return np.concatenate([tower(feed) for feed in Inputs(artifact).of("image", examples)])


@pytest.mark.parametrize("candidate", ["dynamic", "static"])
def test_convolutions_are_int8_and_can_be_float_again(lite: Path, tmp_path: Path, candidate: str) -> None:
    feeds = Inputs(lite / "fp32").of("image", duals.examples(8))
    source = Source(lite / "fp32" / "image", lite / "torch", feeds, True, 0, False, "convolution")
    backend = LiteRtBackend(source)
    ((_, make),) = backend.variants(candidate)
    plan = make()
    backend.write(plan, tmp_path)
    assert int8_weights(tmp_path / "model.tflite") >= sum(backend.matrices().values())
    held_out = duals.examples(8, seed=99)
    expected = answers(lite / "fp32" / "image", lite / "fp32", held_out)
    near = parity(expected, answers(tmp_path, lite / "fp32", held_out))
    assert near.centred_mean is not None
    assert near.centred_mean > 0.9
    backend.write(backend.keep_float(plan, set(backend.matrices())), tmp_path)
    np.testing.assert_allclose(answers(tmp_path, lite / "fp32", held_out), expected, atol=1e-4)


def test_both_towers_end_to_end(lite: Path, tmp_path: Path) -> None:
    judge = Nearness(lite / "fp32", duals.examples(5, seed=11))
    config = QuantizeConfig(litert_candidates=["dynamic"])
    for out in (tmp_path / "a", tmp_path / "b"):
        report = quantize(lite / "fp32", lite / "torch", out, config, duals.examples(8), judge, bound=0.5)
    about = artifact.read(tmp_path / "a")
    assert about.engine == "litert"
    assert {tower.precision for tower in about.each_tower().values()} == {"w8a8"}
    assert {c["name"] for c in report.candidates} == {"image/dynamic", "text/dynamic"}
    for name in about.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    tower = towers.open_tower(tmp_path / "a", "text")
    mask = np.array([[1, 1, 1, 1, 0, 0]], np.int64)
    ids, other = np.array([[118, 3, 4, 119, 0, 0]], np.int64), np.array([[118, 3, 4, 119, 30, 7]], np.int64)
    before = np.array([[118, 50, 4, 119, 0, 0]], np.int64)
    first = tower({"input_ids": ids, "attention_mask": mask})
    np.testing.assert_allclose(tower({"input_ids": other, "attention_mask": mask}), first, atol=1e-5)
    assert np.abs(tower({"input_ids": before, "attention_mask": mask}) - first).max() > 1e-2
