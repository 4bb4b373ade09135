from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import open_bundle, write
from edgekit.devices import profile
from edgekit.devices.memory import model_rss_bytes
from edgekit.devices.profiler import best
from edgekit.errors import EngineError, InputError, MissingDependencyError
from edgekit.runtimes import engines
from tests.runtimes import three

KEYS = """engine file precision threads batch length load_ms first_ms p50_ms p90_ms p95_ms p99_ms max_ms
preprocess_p50_ms model_p50_ms postprocess_p50_ms rss_mb samples_ms""".split()


@pytest.mark.slow
def test_rows_of_a_sweep(small_bundle: Path) -> None:
    found = profile(small_bundle, threads=[1, 2], lengths=[8, 64], batches=[1], runs=12, warmup=2, seconds=0).to_dict()
    assert found["schema_version"] == 1
    assert found["environment"]["cpu"]
    rows = found["rows"]
    assert [(row["threads"], row["length"]) for row in rows] == [(1, 8), (1, 64), (2, 8), (2, 64)]
    for row in rows:
        assert set(KEYS) <= set(row)
        assert row["tokens"] == row["length"], "texts are made to the token"
        assert len(row["samples_ms"]) == 12
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["p50_ms"] == pytest.approx(np.median(row["samples_ms"]), abs=1e-3)
        assert row["load_ms"] > row["model_p50_ms"] > 0
        assert 40 < row["rss_mb"] < 600
        assert row["rss_steady_mb"] <= row["rss_mb"]
    one, many = rows[0], rows[1]
    assert many["model_p50_ms"] > one["model_p50_ms"], "64 tokens cost more than 8"


def test_a_batch_is_a_batch(small_bundle: Path) -> None:
    rows = profile(small_bundle, lengths=[16], batches=[1, 8], runs=5, warmup=1, seconds=0).rows
    assert rows[1]["batch"] == 8
    assert rows[1]["model_p50_ms"] > rows[0]["model_p50_ms"]


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [("lengths", [4096], "lengths"), ("threads", [0], "threads"), ("batches", [0], "batch"), ("files", ["x"], "x")],
)
def test_what_cannot_be_measured_is_named(small_bundle: Path, kind: str, value: list[int], name: str) -> None:
    with pytest.raises(InputError, match=name):
        profile(small_bundle, **{kind: value})


@pytest.fixture
def two_engines(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three.two(tiny_encoder, tmp_path_factory)


@pytest.mark.slow
def test_engines_side_by_side(two_engines: Path) -> None:
    found = profile(two_engines, engine=["openvino", "onnxruntime"], lengths=[8], runs=3, warmup=1, seconds=0).to_dict()
    assert [row["engine"] for row in found["rows"]] == ["openvino", "onnxruntime"]
    fastest = min(found["rows"], key=lambda row: row["p50_ms"])
    choice = found["choice"]
    assert (choice["engine"], choice["file"], choice["threads"]) == (fastest["engine"], fastest["file"], 1)
    assert f"{fastest['p50_ms']:.2f} ms at 8 tokens" in choice["why"]
    assert found["failed"] == []
    checks = {check["name"]: check["ok"] for check in found["verified"]["checks"]}
    assert found["verified"]["ok"] and checks["tokenizer"]
    assert all(checks[f"outputs {row['file']}"] for row in found["rows"])


@pytest.mark.slow
def test_what_fails_is_told_and_the_rest_goes_on(two_engines: Path, tmp_path: Path) -> None:
    bundle = open_bundle(two_engines)
    files: dict[str, Path | bytes] = {one.path: two_engines / one.path for one in bundle.manifest.files}
    write(tmp_path / "x.edge", bundle.manifest, files | {"models/fp32.onnx": b"not a model"})
    found = profile(tmp_path / "x.edge", lengths=[8, 16], runs=3, warmup=1, seconds=0)
    assert [row["engine"] for row in found.rows] == ["openvino", "openvino"]
    assert [(one["engine"], one["file"]) for one in found.failed] == [("onnxruntime", "models/fp32.onnx")]
    told = found.to_dict()["verified"]
    assert not told["ok"] and [c["name"] for c in told["checks"] if not c["ok"]] == ["outputs models/fp32.onnx"]
    assert found.choice["engine"] == "openvino"
    with pytest.raises(EngineError, match="onnxruntime"):
        profile(tmp_path / "x.edge", engine="onnxruntime", lengths=[8], runs=3, seconds=0)


def test_engines_that_cannot_be_measured(two_engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="engine litert"):
        profile(two_engines, engine=["onnxruntime", "litert"])
    real = engines.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else real(name))
    with pytest.raises(MissingDependencyError, match=r"pip install edgekit\[openvino\]"):
        profile(two_engines, engine=["onnxruntime", "openvino"])


def rows(*given: tuple[str, int, int, int, float]) -> list[dict[str, object]]:
    keys = ("file", "threads", "batch", "length", "p50_ms")
    return [{"engine": "e", **dict(zip(keys, row, strict=True))} for row in given]


def test_the_best_over_lengths_threads_and_batches() -> None:
    measured = rows(
        ("a", 1, 1, 16, 1.0), ("a", 1, 1, 128, 9.0), ("b", 1, 1, 16, 2.0), ("b", 1, 1, 128, 4.0),
        ("b", 2, 1, 16, 2.5), ("b", 2, 1, 128, 3.5), ("a", 1, 8, 16, 0.1), ("a", 1, 8, 128, 0.1),
    )  # fmt: skip
    found = best(measured)
    assert (found["file"], found["threads"]) == ("b", 1)
    assert found["why"] == (
        "the least p50 of 3 measured, 2.83 ms at 16, 128 tokens; next e, a, threads 1: 3.00 ms; on threads 2: 2.96 ms"
    )
    assert best(measured, {"b"})["file"] == "a"
    assert best(measured, {"a", "b"})["file"] == "b"


def test_memory_of_a_fresh_process(small_bundle: Path) -> None:
    found = model_rss_bytes(small_bundle, 1, ["a charming film", "no"])
    assert found is not None
    size = sum(path.stat().st_size for path in small_bundle.rglob("*") if path.is_file())
    assert size < found < size + 400e6
