"""The candidate that needs an extra: named when it is missing, right when it is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.errors import MissingDependencyError, StageError
from edgekit.evaluate import parity
from edgekit.export.graph import Graph, weight_matmuls
from edgekit.quantize import neural_compressor, quantize
from edgekit.quantize.backend import Feed, Source
from edgekit.quantize.lower import lower
from edgekit.quantize.onnxruntime import OnnxBackend
from edgekit.quantize.weights import int8_weights
from edgekit.recipe.stages import QuantizeConfig

from .conftest import CALIBRATION, outputs


def _backend(fp32_folder: Path, feeds: list[Feed], reduce_range: bool | str = "auto") -> OnnxBackend:
    return OnnxBackend(Source(fp32_folder, fp32_folder.parent / "torch", feeds, True, 0, reduce_range))


def test_a_recipe_that_asks_for_it_is_told_what_to_install(
    fp32_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neural_compressor, "find_spec", lambda name: None)
    config = QuantizeConfig(candidates=["neural-compressor"])
    with pytest.raises(MissingDependencyError, match=r"pip install edgekit\[neural-compressor\]"):
        quantize(fp32_folder, fp32_folder, tmp_path / "out", config, CALIBRATION, lambda model: (0.0, {}))


def test_it_stands_in_no_default_list() -> None:
    config = QuantizeConfig()
    assert "neural-compressor" not in config.candidates
    assert "neural-compressor-a16" not in config.candidates_for("onnxruntime", "w8a16")
    asked = QuantizeConfig(candidates=["static", "neural-compressor"])
    assert "neural-compressor-a16" in asked.candidates_for("onnxruntime", "w8a16")
    assert "neural-compressor-a16" not in asked.candidates_for("litert", "w8a16")


@pytest.mark.slow
def test_gptq_rounds_better_than_each_weight_by_itself(
    fp32_folder: Path, small: onnx.ModelProto, feeds: list[Feed]
) -> None:
    pytest.importorskip("neural_compressor", reason="needs the extra neural-compressor")
    backend = _backend(fp32_folder, feeds)
    made = {label: make() for label, make in backend.variants("neural-compressor")}
    assert list(made) == ["neural-compressor", "neural-compressor-rows"]
    graph = Graph(backend.rounded)
    for name, node in weight_matmuls(graph).items():
        weights = graph.constant(node.input[1])
        assert weights is not None
        steps = [len(np.unique(column)) for column in weights.T]
        assert max(steps) <= 256, name  # each column on a grid of its own
    reference = outputs(small, feeds)
    ours = parity(reference, outputs(int8_weights(small), feeds)).cosine_mean
    theirs = parity(reference, outputs(backend.rounded, feeds)).cosine_mean
    assert theirs > ours
    for model in made.values():
        assert parity(reference, outputs(lower(model), feeds)).cosine_mean > 0.98


def test_seven_bits_are_refused(fp32_folder: Path, feeds: list[Feed]) -> None:
    pytest.importorskip("neural_compressor", reason="needs the extra neural-compressor")
    _, make = next(iter(_backend(fp32_folder, feeds, reduce_range=True).variants("neural-compressor")))
    with pytest.raises(StageError, match="weights of 8 bits"):
        make()
