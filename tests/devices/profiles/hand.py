"""Profiles as other programs send them, small and whole."""

from __future__ import annotations

from typing import Any


def row(**given: Any) -> dict[str, Any]:
    """A row of one engine with ten samples."""
    samples = [1.0 + place / 10 for place in range(10)]
    return {
        "engine": "onnxruntime", "engine_version": "1.27.0", "file": "models/fp32.onnx", "precision": "fp32",
        "threads": 1, "batch": 1, "length": 16, "load_ms": 200.0, "first_ms": 3.0, "p50_ms": 1.45, "p90_ms": 1.81,
        "p95_ms": 1.86, "p99_ms": 1.89, "max_ms": 1.9, "rss_mb": 80.5, "samples_ms": samples, **given,
    }  # fmt: skip


def profile(*rows: dict[str, Any], **given: Any) -> dict[str, Any]:
    """A measured profile of ``rows``, or of one."""
    return {
        "schema_version": 1,
        "bundle": "small.edge",
        "basis": "measured",
        "environment": {"cpu": "a processor", "versions": {"onnxruntime": "1.27.0"}},
        "rows": list(rows) or [row()],
        **given,
    }


SERIES = {"t_s": [1.0, 2.0], "p50_ms": [1.0, 1.2], "temperature_c": [40.0, 41.5], "throttled": [False, None]}
SUSTAIN = {
    "file": "models/fp32.onnx", "engine": "onnxruntime", "threads": 1, "seconds": 2.0, "first_minute_p50_ms": 1.0,
    "last_minute_p50_ms": 1.2, "ratio": 1.2, "series": SERIES,
}  # fmt: skip
OPS = {
    "file": "models/fp32.onnx",
    "engine": "onnxruntime",
    "rows": [{"op": "MatMul", "kind": "matmul", "provider": "CPU", "calls": 3, "ms": 0.5, "share": 1.0}],
    "providers": [{"provider": "CPU", "share": 1.0}],
}
