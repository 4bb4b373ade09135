"""The files of each engine side by side: what they cost, and how alike they answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.report import figures as f


def engine_rows(data: dict[str, Any]) -> list[dict[str, str]]:
    """Heading -> cell for each packed file, the preferred first; latency and memory from the profile made here."""
    profiles = {row.get("file"): row for row in data["profiles"]}
    sizes = {entry["path"]: entry["bytes"] for entry in data["files"]}
    rows = []
    for model in data["models"]:
        row = profiles.get(model["path"], {})
        size = sum(sizes.get(path, 0) for path in (model["path"], *model.get("parts", [])))
        rows.append(
            {
                "engine": model["engine"],
                "precision": model["precision"],
                "file": model["path"],
                "size": f.size(size or None),
                "p50": f.milliseconds(row.get("p50_ms")),
                "p95": f.milliseconds(row.get("p95_ms")),
                "peak memory": f.size(row.get("rss_bytes")),
                "threads": str(row.get("threads", f.DASH)),
                "verdict": f"missed: {model['failed']}" if model.get("failed") else "passed",
            }
        )
    return rows


def parity_rows(parity: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading -> cell for each file and what it is held against."""
    return [
        {
            "file": f"{row.get('file')} in {row.get('engine')}",
            "on": str(row.get("isa", f.DASH)),
            "against": _reference(str(row.get("against"))),
            "mean cosine": f.cosine(row.get("cosine_mean")),
            "least cosine": f.cosine(row.get("cosine_min")),
            "same first answer": f.metric("accuracy", row.get("top1")),
            "metric": f"{row.get('metric', '')} {f.metric(str(row.get('metric')), row.get('value'))}",
            "95 %": f.interval(str(row.get("metric")), row.get("low"), row.get("high")),
            "examples": str(row.get("n", f.DASH)),
        }
        for row in parity
    ]


def _reference(name: str) -> str:
    return {"teacher": "the teacher, torch fp32", "fp32": "its engine's own fp32"}.get(name, name)
