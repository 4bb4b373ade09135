"""What quantization tried and found, as data for the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Candidate:
    """One INT8 file. ``drop``: metric units lost against fp32 on the judge's data, positive is worse; ``cosine_*``:

    outputs against fp32 on calibration texts; ``p50_ms``: text to answer at batch 1, all candidates and fp32 in turns;
    ``p50_ratio_to_fp32``: median over texts of its time by that of fp32, below 1 is faster; ``float_matrices``: kept in
    float because they cost most. None: not measured, ``reason`` says why.
    """

    name: str
    precision: str = "w8a8"
    size_bytes: int = 0
    drop: float | None = None
    cosine_mean: float | None = None
    cosine_min: float | None = None
    p50_ms: float | None = None
    p50_ratio_to_fp32: float | None = None
    float_matrices: list[str] = field(default_factory=list)
    seconds: float = 0.0
    chosen: bool = False
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizeReport:
    """``candidates`` in the order of trial, ``sensitivity`` worst matrix first, ``chosen`` a candidate's name."""

    candidates: list[dict[str, Any]]
    sensitivity: list[dict[str, Any]]
    chosen: str
    fp32_p50_ms: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a stage's record."""
        return asdict(self)
