"""Profiles of boards, in the published schema, made for one bundle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edgekit.bundle import open_bundle
from edgekit.devices.profiles import read

ODD = 7391.125  # a time that stands nowhere else, to look for
TIMES = (
    *("load_ms", "first_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms", "mean_low_ms"),
    *("mean_high_ms", "jitter_ms", "preprocess_p50_ms", "model_p50_ms", "postprocess_p50_ms", "cpu_ms"),
)


def manifest_sha256(bundle: Path) -> str:
    """What a profile says of the bundle that it measured."""
    return hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()


def row(bundle: Path, ms: float, **more: Any) -> dict[str, Any]:
    """A row of the bundle's first file, every time of it ``ms``."""
    model = open_bundle(bundle).manifest.models[0]
    return {
        "engine": model.engine,
        "file": model.path,
        "precision": model.precision,
        "threads": 1,
        "batch": 1,
        "length": 32,
        "tokens": 32,
        **dict.fromkeys(TIMES, ms),
        "utilisation": 0.9,
        "rss_mb": 61.5,
        "samples_ms": [ms, ms * 1.1, ms * 1.2],
        **more,
    }


def sustained(ms: float) -> dict[str, Any]:
    """Ten minutes in four slices, the last two of them throttled; nothing tells the clock."""
    return {
        "file": "models/fp32.onnx",
        "engine": "onnxruntime",
        "threads": 1,
        "seconds": 600.0,
        "first_minute_p50_ms": ms,
        "last_minute_p50_ms": 1.5 * ms,
        "ratio": 1.5,
        "series": {
            "t_s": [150.0, 300.0, 450.0, 600.0],
            "p50_ms": [ms, ms, 1.5 * ms, 1.5 * ms],
            "temperature_c": [50.0, 70.0, None, 81.5],
            "frequency_mhz": None,
            "throttled": [False, False, True, True],
        },
    }


def operators(ms: float) -> list[dict[str, Any]]:
    """Two operators, one of which fell back to another provider."""
    rows = [
        {"op": "MatMulInteger", "kind": "matmul", "provider": "CPU", "calls": 6, "ms": ms, "share": 0.75},
        {"op": "Erf", "kind": "activation", "provider": "Fallback", "calls": 2, "ms": ms / 3, "share": 0.25},
    ]
    shares = [{"provider": "CPU", "share": 0.75}, {"provider": "Fallback", "share": 0.25}]
    return [{"file": "models/fp32.onnx", "engine": "onnxruntime", "rows": rows, "providers": shares}]


def profile(path: Path, ms: float = 12.5, rows: list[dict[str, Any]] | None = None, /, **more: Any) -> dict[str, Any]:
    """A profile as :func:`edgekit.devices.profiles.read` gives it; ``more`` replaces its keys."""
    rows = rows or [row(path, ms)]
    first = rows[0]
    value = {
        "schema_version": 1,
        "bundle": str(path),
        "bundle_sha256": manifest_sha256(path),
        "basis": "measured",
        "target": "ssh://pi@10.1.2.3:22",
        "board": "pi5",
        "created": "2026-11-22T12:00:00+00:00",
        "environment": {"cpu": "Cortex-A76", "isa": "aarch64-dotprod", "os": "Debian 12"},
        "verified": {"ok": True, "checks": [{"name": "golden vectors", "ok": True}]},
        "rows": rows,
        "choice": {k: first[k] for k in ("engine", "file", "threads")} | {"why": f"the least p50, {ms} ms"},
        "failed": [],
        **more,
    }
    return read(json.dumps(value).encode(), "test")
