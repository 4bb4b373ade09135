"""Each engine's own profiler, in one table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.devices import profile, select
from edgekit.devices.operators import Timed, kind_of, litert, table
from edgekit.devices.operators.measure import measure, wanted
from edgekit.devices.operators.onnxruntime import from_trace
from edgekit.errors import EngineError
from edgekit.runtimes.engines.litert import LiteRtEngine
from tests.arm_bundles import write_bundle
from tests.runtimes import tiny
from tests.sharing import once


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
        assert "matmul" in kinds and "other" not in kinds  # a gather of less than a microsecond may be missing
    onnx, ov = measured
    assert [part["provider"] for part in onnx["providers"]] == ["CPUExecutionProvider"]
    assert {row["op"]: row["calls"] for row in onnx["rows"]}["MatMul"] == 1, "one in each inference"
    assert {part["provider"] for part in ov["providers"]} <= {"CPU", "CPU reference kernels"}


def test_an_engine_without_a_profiler_says_so(bundle: Path) -> None:
    (job, *_) = select.jobs(open_bundle(bundle), [1], [8])
    (found,) = measure([{**job, "engine": "tflite-runtime"}])
    assert found["rows"] == [] == found["providers"] and found["runs"] is None
    assert found["reason"] == "the Python package of tflite-runtime has no profiler of operators"


@pytest.mark.slow
def test_litert_in_fp32_and_int8(
    tiny_encoder: Path, tiny_litert: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = once(tmp_path_factory, "pi", lambda work: write_bundle(tiny_encoder, tiny_litert, work, "pi")) / "pi.edge"
    jobs = wanted(select.jobs(open_bundle(path), [1, 2], [16, 32], engine="litert"))
    found = {one["file"]: one for one in measure(jobs, runs=5, warmup=2)}
    assert set(found) == {"models/fp32.tflite", "models/w8a8.tflite"}
    for one in found.values():
        assert (one["reason"], one["threads"], one["length"], one["runs"]) == ("", 1, 32, 5)
        assert sum(row["share"] for row in one["rows"]) == pytest.approx(1, abs=1e-3)
        kinds = {row["kind"] for row in one["rows"]}
        assert {"matmul", "gather", "softmax", "layout"} <= kinds and "other" not in kinds
        assert {part["provider"] for part in one["providers"]} == {"XNNPACK", "built-in kernels"}
        assert {row["provider"] for row in one["rows"] if row["kind"] == "gather"} == {"built-in kernels"}
    dense = {
        name: [row for row in one["rows"] if row["op"].startswith("Fully Connected")] for name, one in found.items()
    }
    assert all("QC8W" in row["op"] for row in dense["models/w8a8.tflite"])
    assert not any("QC8W" in row["op"] for row in dense["models/fp32.tflite"])
    for file in found:  # what is timed gives the answers that are served
        ids = np.arange(5, 25)[None]
        both = [kind(path / file, 1).run(ids, np.ones_like(ids)) for kind in (LiteRtEngine, litert.Profiled)]
        np.testing.assert_allclose(both[0], both[1], atol=1e-6)


def test_a_release_whose_functions_were_not_tried(tiny_litert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "KNOWN", ("1.0.",))
    with pytest.raises(EngineError, match=r"whose C functions were not tried; expected 1\.0\.\*"):
        litert.Profiled(tiny_litert / "model.tflite", 1)


SUMMARY = """
===== Run Order =====
   [node type] [start] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]
   RESHAPE  0.000  0.003  0.001  5.000%  5.000%  0.000  4  [Builtin]:0

===== Summary by node type =====
                          [Node type]    [count]   [avg ms]    [avg %]    [cdf %]   [mem KB] [times called]
 Delegate/Fully Connected (NC, QD8, F32, QC8W) GEMM   2   0.044   70.000%   70.000%   0.000   8
                             RESHAPE   1   0.001   30.000%   100.000%   0.000   4

===== Delegate Statistics =====
Op Name  Count  Avg(us)

Timings (microseconds): count=3 curr=4000
"""


def test_litert_summary() -> None:
    dense, reshape = litert.from_summary(SUMMARY, 4)
    assert dense == Timed("Fully Connected (NC, QD8, F32, QC8W) GEMM", "XNNPACK", 2, pytest.approx(0.7))
    assert reshape == Timed("RESHAPE", "built-in kernels", 1, pytest.approx(0.3))
    assert "curr=4000" in SUMMARY, "in us, of all four runs"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("0.000   8", "0.000   7", "found 7 calls of .*; expected 2 in each of 4 runs"),  # events were lost
        ("Summary by node type", "Summary", "expected one table of operators"),
        ("curr=4000", "", "expected one table of operators"),
        ("   0.000   4\n\n=====", "   4\n\n=====", "expected one table of operators"),
    ],
)
def test_a_litert_summary_of_another_form(old: str, new: str, says: str) -> None:
    assert old in SUMMARY
    with pytest.raises(EngineError, match=says):
        litert.from_summary(SUMMARY.replace(old, new), 4)


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
        ("Batch Matrix Multiply (NC, F32) GEMM", "matmul"), ("Static Reshape (NC)", "layout"),
        ("Mean Squared (ND) Reduce2", "reduce"), ("Convert (NC, F32, QD8)", "quantize"),
        ("Convert (NC, F16, F32)", "layout"), ("Squared Difference (ND)", "elementwise"),
        ("Fully Connected (NC, F32) GEMM", "matmul"),
    ],
)  # fmt: skip
def test_one_word_for_what_operators_do(op: str, kind: str) -> None:
    assert kind_of(op) == kind
