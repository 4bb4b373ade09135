"""The table of INT8 candidates: what each was measured at, and why it was taken or left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.report import figures as f


def candidate_rows(candidates: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading -> cell for each candidate of quantize; a figure that was not measured is a dash."""
    return [_row(one) for one in candidates]


def _row(one: dict[str, Any]) -> dict[str, str]:
    ratio = one.get("p50_ratio_to_fp32")
    floats = one.get("float_matrices")
    return {
        "stage": str(one.get("stage", f.DASH)),
        "candidate": str(one.get("name", f.DASH)),
        "verdict": "taken" if one.get("chosen") else "left",
        "change, points": f.change(one.get("drop")),
        "cosine to fp32": f.cosine(one.get("cosine_mean")),
        "least cosine": f.cosine(one.get("cosine_min")),
        "size": f.size(one.get("size_bytes") or None),
        "p50": f.milliseconds(one.get("p50_ms")),
        "faster than fp32": f.times(1 / ratio if ratio else None),
        "matrices in float": str(len(floats)) if isinstance(floats, list) else f.DASH,
        "why": str(one.get("reason") or ""),
    }
