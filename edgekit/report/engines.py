"""The files of each engine side by side: what they cost."""

from __future__ import annotations

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
