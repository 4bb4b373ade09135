"""Each engine's own profiler, in one table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import open_bundle
from edgekit.devices import profile, select
from edgekit.devices.operators import Timed, kind_of, table
from edgekit.devices.operators.measure import measure, wanted
from edgekit.devices.operators.onnxruntime import from_trace
from tests.runtimes import tiny


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bundle(tmp_path_factory.mktemp("operators") / "tiny.edge", openvino=True)


@pytest.fixture(scope="module")
def measured(bundle: Path) -> list[dict[str, Any]]:
    return measure(wanted(select.jobs(open_bundle(bundle), [1], [8, 16])), runs=5, warmup=2)


def test_two_engines_in_one_table(measured: list[dict[str, Any]]) -> None:
    assert [one["engine"] for one in measured] == ["onnxruntime", "openvino"]
    for one in measured:
        assert one["reason"] == "" and one["runs"] == 5 and one["length"] == 16
        assert sum(row["share"] for row in one["rows"]) == pytest.approx(1, abs=1e-3)
        assert sum(part["share"] for part in one["providers"]) == pytest.approx(1, abs=1e-3)
        assert [row["ms"] for row in one["rows"]] == sorted((row["ms"] for row in one["rows"]), reverse=True)
        kinds = {row["kind"] for row in one["rows"]}
        assert {"matmul", "gather"} <= kinds and "other" not in kinds
    onnx, ov = measured
    assert [part["provider"] for part in onnx["providers"]] == ["CPUExecutionProvider"]
    assert {row["op"]: row["calls"] for row in onnx["rows"]}["MatMul"] == 1, "one in each inference"
    assert {part["provider"] for part in ov["providers"]} <= {"CPU", "CPU reference kernels"}


def test_an_engine_without_a_profiler_says_so(bundle: Path) -> None:
    (job, *_) = select.jobs(open_bundle(bundle), [1], [8])
    (found,) = measure([{**job, "engine": "litert"}])
    assert found["rows"] == [] == found["providers"] and found["runs"] is None
    assert found["reason"] == "the Python package of litert has no profiler of operators"


def test_what_fails_is_told(bundle: Path, tmp_path: Path) -> None:
    (job, *_) = select.jobs(open_bundle(bundle), [1], [8])
    broken = shutil.copytree(bundle, tmp_path / "broken.edge")
    (broken / tiny.ONNX).write_bytes(bytes((bundle / tiny.ONNX).stat().st_size))
    (found,) = measure([{**job, "bundle": str(broken)}], runs=1)
    assert found["rows"] == [] and "expected an ONNX model" in found["reason"]


def test_a_profile_has_them_on_request(bundle: Path) -> None:
    flags = {"engine": "onnxruntime", "lengths": [8], "runs": 1, "seconds": 0, "warmup": 0}
    assert profile(bundle, **flags).ops == ()
    (only,) = profile(bundle, **flags, ops=True).ops
    assert only["file"] == tiny.ONNX and only["rows"]


def event(name: str, ts: int, op: str = "", provider: str = "", dur: int = 1000) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "ts": ts, "dur": dur, "cat": "Node" if op else "Session", "args": {}}
    return {**found, "args": {"op_name": op, "provider": provider}} if op else found


def test_one_slow_fallback_shows_in_the_share_of_its_provider() -> None:
    gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    trace = [event("session_initialization", 0)]
    for start in (100, 200, 300):
        trace += [event("model_run", start), event("MatMul_1_kernel_time", start + 1, "MatMul", gpu, 500 * start)]
        trace += [event(f"g{k}_kernel_time", start + 2, "Add", gpu, 10) for k in range(9)]
        trace += [event("r_fence_before", start + 2, "Resize", cpu, 10**6)]
        trace += [event("r_kernel_time", start + 3, "Resize", cpu, 90_000)]
    found = table(from_trace(trace, skipped=1, runs=2))
    assert [(row["op"], row["calls"]) for row in found["rows"]] == [("MatMul", 1), ("Resize", 1), ("Add", 9)]
    assert found["rows"][0]["ms"] == 125.0, "of the runs after the first alone"
    assert {part["provider"]: round(part["share"], 2) for part in found["providers"]} == {gpu: 0.58, cpu: 0.42}
    assert from_trace(trace, skipped=3, runs=1) == []


def test_tables_of_nothing_and_of_zero() -> None:
    assert table([]) == {"rows": [], "providers": []}
    assert table([Timed("Add", "CPU", 1, 0.0)])["rows"][0]["share"] == 0.0


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("QLinearMatMul", "matmul"), ("QLinearAdd", "elementwise"), ("QLinearConv", "convolution"),
        ("MatMulIntegerToFloat", "matmul"), ("DynamicQuantizeLinear", "quantize"),
        ("Convert", "layout"), ("ConvInteger", "convolution"), ("FULLY_CONNECTED", "matmul"), ("Expand", "layout"),
        ("Exp", "elementwise"), ("SkipLayerNormalization", "normalise"), ("BiasGelu", "activation"),
        ("Subgraph", "fused"), ("TRTKernel_graph_1", "fused"), ("ShapeOf", "layout"),
        ("Unheard", "other"), ("ReduceSum", "reduce"), ("ScaledDotProductAttention", "attention"),
    ],
)  # fmt: skip
def test_one_word_for_what_operators_do(op: str, kind: str) -> None:
    assert kind_of(op) == kind
