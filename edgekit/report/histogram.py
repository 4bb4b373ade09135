"""How often a latency took how long: bins, and their geometry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.report import figures as f
from edgekit.report.axes import Axis, Tick

BINS = 24
WIDTH, HEIGHT, LEFT, TOP, FLOOR = 300, 120, 20, 24, 94  # user units


def histogram(samples: Sequence[float], bins: int = BINS) -> dict[str, Any]:
    """``low_ms``, ``high_ms``, ``counts`` of equal bins between them, and ``beyond``: how many were slower than those.

    The bins end at the 99th percentile, since one pause of a second would press all others into the first.
    """
    values = np.array([value for value in samples if isinstance(value, int | float) and math.isfinite(value)])
    if not len(values):
        return {}
    low, high = float(values.min()), float(np.percentile(values, 99))
    high = high if high > low else low + max(abs(low), 1e-3) * 0.01
    counts, _ = np.histogram(values, bins=bins, range=(low, high))
    return {"low_ms": low, "high_ms": high, "counts": counts.tolist(), "beyond": int((values > high).sum())}


@dataclass(frozen=True)
class Block:
    """One bin."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Histogram:
    """Bins, marks of p50 and p95 (where they lie within), ticks, and the words for who cannot see it."""

    title: str
    description: str
    blocks: list[Block]
    marks: list[tuple[float, str]]
    ticks: list[Tick]


def drawing(title: str, row: dict[str, Any]) -> Histogram | None:
    """The picture of a row with a ``histogram``; None without one."""
    found = row.get("histogram")
    if not found:
        return None
    axis = Axis(found["low_ms"], found["high_ms"], LEFT, WIDTH - LEFT)
    counts, most = found["counts"], max(found["counts"]) or 1
    width = (axis.end - axis.start) / len(counts)
    scale = (FLOOR - TOP) / most
    blocks = [
        Block(axis.start + i * width, FLOOR - count * scale, max(width - 1, 1), count * scale)
        for i, count in enumerate(counts)
    ]
    marks = [
        (axis.at(row[key]), name)
        for key, name in (("p50_ms", "p50"), ("p95_ms", "p95"))
        if isinstance(row.get(key), int | float) and axis.low <= row[key] <= axis.high
    ]
    slower = f"; {found['beyond']} of {sum(counts) + found['beyond']} runs were slower" if found["beyond"] else ""
    told = ", ".join(
        f"{key} {f.milliseconds(row.get(f'{key}_ms'))}"
        for key in ("p50", "p90", "p95", "p99", "max")
        if f"{key}_ms" in row
    )
    spread = f"from {f.milliseconds(axis.low)} to {f.milliseconds(axis.high)}{slower}"
    return Histogram(
        title, f"Latencies {spread}. {told}.", blocks, marks, axis.ticks(4, lambda value: f"{f.short(value)} ms")
    )
