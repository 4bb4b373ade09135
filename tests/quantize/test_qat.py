"""INT8 files of a model that was trained for it: its own ranges, every product, nothing in float."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgekit.data import TextSet
from edgekit.distill import fake_quant, ranges
from edgekit.distill import folder as folders
from edgekit.distill.batches import tokenize
from edgekit.distill.qat import calibrate
from edgekit.errors import ModelError, StageError
from edgekit.export.graph import Graph, weight_matmuls
from edgekit.quantize import quantize
from edgekit.quantize.lower import lower
from edgekit.quantize.qat import qdq
from edgekit.recipe.stages import ExportConfig, QuantizeConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.model import Model

from .conftest import CALIBRATION, HELD_OUT

Judge = Callable[[Model], tuple[float, dict[str, Any]]]
SHOWN = [*CALIBRATION, *HELD_OUT]
PRODUCTS = [f"layers.{i}.{name}" for i in range(2) for name in ("attention.qkv", "attention.out", "up", "down")]


@pytest.fixture(scope="module")
def torch_folder(fp32_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The torch model behind ``fp32_folder`` with ranges as training would start from. Shared: do not write to it."""
    out = tmp_path_factory.mktemp("qat") / "torch"
    shutil.copytree(fp32_folder.parent / "torch", out)
    encoder, tokenizer = folders.load(out)
    tokens = tokenize(tokenizer, TextSet(texts=CALIBRATION), 64, 0)
    ends = calibrate(encoder, tokens, np.arange(len(tokens)))
    ranges.write({name: fake_quant.Range(pair).codes() for name, pair in ends.items()}, out)
    return out


@pytest.fixture(scope="module")
def expected(torch_folder: Path) -> np.ndarray:
    """Unit embeddings of SHOWN by torch with those ranges in place, (n, 384)."""
    encoder, tokenizer = folders.load(torch_folder)
    found = ranges.read(torch_folder)
    fake_quant.insert(encoder, {n: (-zero * scale, (255 - zero) * scale) for n, (scale, zero) in found.items()})
    with torch.inference_mode():
        rows = [torch.tensor([tokenizer.encode(text).ids]) for text in SHOWN]
        return np.concatenate([encoder(row, torch.ones_like(row)).numpy() for row in rows])


def test_every_product_is_int8_with_the_ranges_of_training(fp32_folder: Path, torch_folder: Path) -> None:
    model = qdq(onnx.load(str(fp32_folder / "model.onnx")), ranges.read(torch_folder))
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}  # any engine reads it
    assert not weight_matmuls(Graph(model))
    graph = Graph(model)
    for name, (scale, zero) in ranges.read(torch_folder).items():
        assert graph.constant(f"{name}.input.scale") == np.float32(scale)
        assert graph.constant(f"{name}.input.zero") == zero
        codes, scales = graph.constant(f"{name}.weight.int8"), graph.constant(f"{name}.weight.scale")
        assert codes is not None and scales is not None
        assert codes.dtype == np.int8 and scales.shape == (codes.shape[1],)
        assert (np.abs(codes).max(axis=0) == 127).all()  # no level is wasted
    lowered = Graph(lower(model))
    kinds = [node.op_type for node in lowered.proto.node]
    assert kinds.count("QuantizeLinear") == len(PRODUCTS) and "DequantizeLinear" not in kinds
    assert kinds.count("MatMulIntegerToFloat") + kinds.count("QAttention") == len(PRODUCTS)
    assert not weight_matmuls(lowered)


def _run(
    fp32: Path, torch_folder: Path, out: Path, judge: Judge, bound: float = 0.05, **more: Any
) -> tuple[list[str], dict[str, Any]]:
    config = QuantizeConfig(candidates=["dynamic"], gate={"max_drop": bound})
    report = quantize(fp32, torch_folder, out, config, CALIBRATION, judge, **more)
    return [c["name"] for c in report.candidates], report.to_dict()


def _same_but_for_flips(expected: np.ndarray, model: Model) -> None:
    """float32 differs in its last bits from engine to engine, so now and then a value falls to the next code."""
    cosine = np.sum(expected * model.embed(SHOWN), axis=1)
    assert np.median(cosine) > 0.99999 and cosine.mean() > 0.9995, cosine


@pytest.mark.slow
def test_a_trained_model_is_rounded_as_trained_and_no_other_way(
    fp32_folder: Path, torch_folder: Path, expected: np.ndarray, cosine_judge: Callable[[Path], Judge], tmp_path: Path
) -> None:
    judge = cosine_judge(fp32_folder)
    names, report = _run(fp32_folder, torch_folder, tmp_path / "int8", judge)
    assert names == ["qat"] and report["chosen"] == "qat"
    assert report["candidates"][0]["float_matrices"] == []
    assert {row["matrix"] for row in report["sensitivity"]} == set(PRODUCTS)
    model = artifact.load(tmp_path / "int8", threads=1)
    assert model.precision == "w8a8"
    _same_but_for_flips(expected, model)
    assert (tmp_path / "int8" / "model.onnx").stat().st_size < 0.27 * (fp32_folder / "model.onnx").stat().st_size
    json.dumps(report)
    names, _ = _run(fp32_folder, fp32_folder.parent / "torch", tmp_path / "plain", judge)
    assert names == ["dynamic"]


@pytest.mark.slow
def test_openvino_runs_every_product_in_int8_with_the_same_answers(
    fp32_folder: Path, torch_folder: Path, expected: np.ndarray, cosine_judge: Callable[[Path], Judge], tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    from edgekit.export.openvino import export_openvino
    from edgekit.runtimes.engines.openvino import import_openvino

    export_openvino(torch_folder, fp32_folder, tmp_path / "fp32", ExportConfig(), CALIBRATION)
    names, _ = _run(tmp_path / "fp32", torch_folder, tmp_path / "int8", cosine_judge(fp32_folder))
    assert names == ["qat"]
    model = artifact.load(tmp_path / "int8", threads=1)
    assert model.engine == "openvino"
    _same_but_for_flips(expected, model)
    compiled = (
        import_openvino()
        .Core()
        .compile_model(str(tmp_path / "int8" / "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    )
    types = [
        tuple(value.get_element_type().get_type_name() for value in node.inputs()[:2])
        for node in compiled.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"] == "FullyConnected"
    ]
    assert types == [("u8", "i8")] * len(PRODUCTS)


def test_it_never_falls_back_to_float(fp32_folder: Path, torch_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        _run(fp32_folder, torch_folder, tmp_path / "int8", lambda model: (0.2, {}))
    assert "qat drop 0.2000" in str(caught.value) and "float-" not in str(caught.value)
    assert "stages.qat" in str(caught.value)


def test_a_product_without_a_range_is_an_error(fp32_folder: Path, torch_folder: Path) -> None:
    known = ranges.read(torch_folder)
    del known["layers.1.up"]
    with pytest.raises(ModelError, match=r"nothing on layers\.1\.up"):
        qdq(onnx.load(str(fp32_folder / "model.onnx")), known)
