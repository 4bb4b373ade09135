"""The stage as a whole, on real layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.errors import StageError
from edgekit.export.graph import save
from edgekit.quantize import quantize
from edgekit.quantize.candidates import dynamic, dynamic_rows
from edgekit.quantize.embeddings import int8_embeddings
from edgekit.quantize.lower import lower
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes.artifact import read_spec
from edgekit.runtimes.model import Model
from tests.quantize.ranks import MiniLm, pairs

from .conftest import CALIBRATION

MakeJudge = Callable[[Path], Callable[[Model], tuple[float, dict[str, Any]]]]


def _config(bound: float, *candidates: str, **more: Any) -> QuantizeConfig:
    return QuantizeConfig(candidates=list(candidates), gate={"max_drop": bound}, **more)


@pytest.mark.slow
def test_all_candidates_are_tried_and_one_is_written(
    fp32_folder: Path, cosine_judge: MakeJudge, tmp_path: Path
) -> None:
    out = tmp_path / "int8"
    judge = cosine_judge(fp32_folder)
    report = quantize(fp32_folder, fp32_folder, out, _config(0.02, "nncf", "dynamic", "static"), CALIBRATION, judge)
    found = {c["name"]: c for c in report.candidates}
    assert {"nncf", "dynamic", "static"} <= set(found)
    assert [c["name"] for c in report.candidates if c["chosen"]] == [report.chosen]
    for candidate in found.values():
        assert candidate["drop"] is not None, candidate["reason"]
        assert candidate["size_bytes"] < 0.3 * (fp32_folder / "model.onnx").stat().st_size
        assert candidate["cosine_mean"] > 0.98
        assert candidate["reason"]
    assert len(report.sensitivity) == 8
    errors = [s["error"] for s in report.sensitivity]
    assert errors == sorted(errors, reverse=True)
    assert min(errors) > 0
    json.dumps(report.to_dict())  # plain data

    assert sorted(p.name for p in out.iterdir()) == ["artifact.json", "model.onnx", "task.json", "tokenizer.json"]
    assert json.loads((out / "artifact.json").read_text())["precision"] == "w8a8"
    model = Model.from_files(out / "model.onnx", out / "tokenizer.json", read_spec(out), precision="w8a8", threads=1)
    assert judge(model)[0] == pytest.approx(found[report.chosen]["drop"], abs=1e-3)
    for length in (1, 5, 60):  # dynamic shapes survive
        assert np.isfinite(model.embed("word " * length)).all()


@pytest.mark.slow
def test_the_same_choice_gives_the_same_bytes(fp32_folder: Path, cosine_judge: MakeJudge, tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        quantize(
            fp32_folder, fp32_folder, tmp_path / name, _config(0.02, "static"), CALIBRATION, cosine_judge(fp32_folder)
        )
        digests.add(hashlib.sha256((tmp_path / name / "model.onnx").read_bytes()).hexdigest())
    assert len(digests) == 1


def _whole(folder: Path, scratch: Path, quantizer: Callable[..., onnx.ModelProto]) -> Model:
    base = onnx.load(str(folder / "model.onnx"))
    int8_embeddings(base)
    model = quantizer(base, [], 0)
    save(lower(model), scratch / "whole.onnx")
    return Model.from_files(scratch / "whole.onnx", folder / "tokenizer.json", read_spec(folder), threads=1)


@pytest.mark.slow
def test_the_worst_matrices_stay_in_float_until_the_bound_holds(
    fp32_folder: Path, cosine_judge: MakeJudge, tmp_path: Path
) -> None:
    judge = cosine_judge(fp32_folder)
    lost = [judge(_whole(fp32_folder, tmp_path, quantizer))[0] for quantizer in (dynamic, dynamic_rows)]
    bound = lost[1] * 0.6
    report = quantize(fp32_folder, fp32_folder, tmp_path / "part", _config(bound, "dynamic"), CALIBRATION, judge)
    whole, rows, kept = report.candidates
    assert [whole["drop"], rows["drop"]] == pytest.approx(lost, rel=0.2)
    assert kept["chosen"]
    assert kept["name"] == report.chosen == f"dynamic-rows-float-{len(kept['float_matrices'])}"
    assert 1 <= len(kept["float_matrices"]) < 8
    assert kept["float_matrices"] == [s["matrix"] for s in report.sensitivity][: len(kept["float_matrices"])]
    assert kept["drop"] <= bound
    assert kept["size_bytes"] > rows["size_bytes"]


@pytest.mark.slow
def test_rows_are_ranged_before_anything_stays_in_float(
    fp32_folder: Path, cosine_judge: MakeJudge, tmp_path: Path
) -> None:
    judge = cosine_judge(fp32_folder)
    bound = judge(_whole(fp32_folder, tmp_path, dynamic))[0] * 0.8
    report = quantize(fp32_folder, fp32_folder, tmp_path / "rows", _config(bound, "dynamic"), CALIBRATION, judge)
    assert [c["name"] for c in report.candidates] == ["dynamic", "dynamic-rows"]
    assert report.chosen == "dynamic-rows"


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "share"), [("fp16", 0.51), ("w8a16", 0.27)])
def test_other_precisions_lose_nothing_that_the_judge_can_see(
    precision: str, share: float, fp32_folder: Path, cosine_judge: MakeJudge, tmp_path: Path
) -> None:
    report = quantize(
        fp32_folder,
        fp32_folder,
        tmp_path / "out",
        _config(0.001, "dynamic"),
        CALIBRATION,
        cosine_judge(fp32_folder),
        precision,
    )
    assert all(c["drop"] is not None and c["precision"] == precision for c in report.candidates)
    assert (tmp_path / "out" / "model.onnx").stat().st_size < share * (fp32_folder / "model.onnx").stat().st_size
    assert json.loads((tmp_path / "out" / "artifact.json").read_text())["precision"] == precision


def test_float_layers_zero_keeps_nothing_in_float(fp32_folder: Path, cosine_judge: MakeJudge, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no INT8 candidate is within the bound; found dynamic drop"):
        quantize(
            fp32_folder,
            fp32_folder,
            tmp_path / "out",
            _config(0.0, "dynamic", float_layers=0),
            CALIBRATION,
            cosine_judge(fp32_folder),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_impossible_bound_is_an_error_that_says_what_was_measured(fp32_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        quantize(
            fp32_folder, fp32_folder, tmp_path / "out", _config(0.01, "dynamic"), CALIBRATION, lambda model: (1.0, {})
        )
    text = str(caught.value)
    assert "dynamic drop 1.0000, cosine 0.99" in text
    assert "dynamic-float-7 drop 1.0000" in text
    assert "expected a drop of at most 0.01" in text
    assert "max_drop" in text


def test_no_calibration_text_is_an_error(fp32_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="calibration texts"):
        quantize(fp32_folder, fp32_folder, tmp_path / "out", _config(0.01, "dynamic"), [], lambda model: (0.0, {}))


@pytest.mark.slow
def test_minilm_keeps_its_rank_correlation(to_rank: MiniLm, shared_data: Path, tmp_path: Path) -> None:
    """INT8 alone on six layers: Spearman on STS-B dev within 0.003 of fp32, and faster."""
    config = _config(0.003, "dynamic", "static")
    calibration = [row[0] for row in pairs(shared_data, "train")[:300]]
    report = quantize(to_rank.onnx, to_rank.torch, tmp_path / "int8", config, calibration, to_rank.judge)
    chosen = next(c for c in report.candidates if c["chosen"])
    assert chosen["drop"] <= 0.003
    assert chosen["p50_ratio_to_fp32"] < 1
