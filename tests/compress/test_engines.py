"""One run, every engine: files, parity matrix, what happens when an engine's stage fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.compress import compress
from edgekit.compress.prepare import require_engines
from edgekit.errors import MissingDependencyError, StageError
from edgekit.evaluate.matrix import Answered, parity_matrix
from edgekit.recipe import load_recipe
from edgekit.report import read
from edgekit.runtimes.load import load
from edgekit.runtimes.verify import verify

THREE = "onnxruntime,openvino,litert"
TEXTS = ["a charming film", "the plot is really dull, they say", "no"]


@pytest.mark.slow
def test_one_run_packs_and_proves_every_engine(small_job: Path, cache: Path, tmp_path: Path) -> None:
    result = compress(load_recipe(small_job, {"engines": THREE, "lengths": "16"}), tmp_path / "x.edge", cache_dir=cache)
    manifest = open_bundle(result.bundle).manifest
    assert {(model.engine, model.precision) for model in manifest.models} == {(e, "w8a8") for e in THREE.split(",")}
    assert [record.stage for record in manifest.stages[-7:]] == [
        "export",
        "quantize",
        "export-openvino",
        "quantize-openvino",
        "export-litert",
        "quantize-litert",
        "pack",
    ]
    times = {row["file"]: row["p50_ms"] for row in manifest.profiles}
    assert [model.path for model in manifest.models] == sorted(times, key=lambda path: times[path])
    assert len(manifest.parity) == 3 * 4, "each file against the teacher, its own fp32 and two others"
    for row in manifest.parity:
        assert row["cosine_mean"] > (0.9 if row["against"] == "teacher" else 0.99), row
        assert row["low"] <= row["value"] <= row["high"]
    assert verify(result.bundle).ok
    answers = [load(result.bundle, engine=engine).logits(TEXTS) for engine in THREE.split(",")]
    for other in answers[1:]:
        # Three quantizers round in three ways: nearly the same answers, not the same numbers.
        np.testing.assert_allclose(answers[0], other, atol=0.4 * np.abs(answers[0]).max())
    sizes = manifest.stages[-1].details["size_bytes_by_engine"]
    assert set(sizes) == set(THREE.split(",")) and max(sizes.values()) < read(result.bundle)["size_bytes"]


@pytest.mark.slow
def test_an_engine_that_fails_leaves_the_others(
    small_job: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgekit.export.openvino as exporter

    def broken(*_: Any) -> None:
        raise StageError("model.xml in openvino differs from torch", found="cosine 0.5")

    monkeypatch.setattr(exporter, "export_openvino", broken)
    recipe = load_recipe(small_job, {"engines": "onnxruntime,openvino"})
    result = compress(recipe, tmp_path / "x.edge", cache_dir=tmp_path / "cache")
    stages = {record.stage: record for record in result.stages}
    assert not stages["export-openvino"].kept and "cosine 0.5" in stages["export-openvino"].reason
    assert not stages["quantize-openvino"].kept and "export-openvino did not stay" in stages["quantize-openvino"].reason
    assert [model.engine for model in open_bundle(result.bundle).manifest.models] == ["onnxruntime"]


@pytest.mark.slow
def test_a_file_beyond_its_bound_is_packed_only_on_request_and_marked(
    small_job: Path, cache: Path, tmp_path: Path
) -> None:
    strict = {"precision": "w8a8,fp32", "stages.quantize.gate": {"max_drop": 0.6, "min_gain": 1000, "min_speed": 0}}
    result = compress(load_recipe(small_job, strict), tmp_path / "a.edge", cache_dir=cache)
    assert [model.path for model in open_bundle(result.bundle).manifest.models] == ["models/fp32.onnx"]
    result = compress(load_recipe(small_job, {**strict, "keep": "failed"}), tmp_path / "b.edge", cache_dir=cache)
    models = open_bundle(result.bundle).manifest.models
    assert [(model.path, bool(model.failed)) for model in models] == [
        ("models/fp32.onnx", False),
        ("models/w8a8.onnx", True),
    ]
    assert "does not pay" in models[1].failed
    assert load(result.bundle).file == "models/fp32.onnx"
    assert load(result.bundle, file="models/w8a8.onnx").file == "models/w8a8.onnx"


def test_an_engine_that_cannot_be_made_here_is_an_error_and_never_left_out(
    small_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgekit.compress.prepare as prepare

    monkeypatch.setattr(prepare, "find_spec", lambda name: None if name == "litert_torch" else object())
    require_engines(load_recipe(small_job, {"engines": "onnxruntime,openvino"}))
    with pytest.raises(MissingDependencyError, match="litert_torch") as caught:
        require_engines(load_recipe(small_job, {"engines": THREE}))
    assert caught.value.exit_code == 2 and "--engines onnxruntime,openvino" in str(caught.value)


def test_the_matrix_compares_each_file_with_every_reference() -> None:
    from edgekit.data import TextSet

    random = np.random.default_rng(0)
    teacher = random.normal(size=(50, 3)).astype(np.float32)
    labels = teacher.argmax(1)
    data = TextSet([f"text {i}" for i in range(50)], labels=labels)
    near, far = teacher + 0.01, -teacher
    files = [
        Answered("models/w8a8.onnx", "onnxruntime", "w8a8", near, teacher),
        Answered("models/w8a8.tflite", "litert", "w8a8", far, teacher),
    ]
    rows = parity_matrix("classify", files, teacher, data, ["a", "b", "c"], "x86_64-avx2")
    found = {(row["file"], row["against"]): row for row in rows}
    assert len(found) == len(rows) == 6
    good, bad = found["models/w8a8.onnx", "teacher"], found["models/w8a8.tflite", "teacher"]
    assert good["top1"] == 1.0 and good["value"] == 1.0 and good["cosine_min"] > 0.99
    assert bad["top1"] == 0.0 and bad["cosine_mean"] == pytest.approx(-1.0)
    assert found["models/w8a8.tflite", "models/w8a8.onnx"]["cosine_mean"] < -0.99
