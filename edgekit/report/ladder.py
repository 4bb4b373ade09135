"""The rungs of a ladder: a table, and a picture of accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.report import figures as f

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 700, 260, 70, 16, 230  # of the picture and its axes, user units
_RIGHT = WIDTH - 90  # room for the last point's label


def ladder_rows(ladder: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading -> cell for each rung, the most accurate first; figures of its fastest file."""
    return [
        {
            "rung": rung["name"],
            "layers": str(rung["layers"]),
            rung["metric"].replace("_", " "): f.metric(rung["metric"], rung["value"]),
            "95 %": f.interval(rung["metric"], rung["low"], rung["high"]),
            "agreement with teacher": f.metric("accuracy", rung["agreement"])
            if rung["metric"] in f.SHARES
            else f.cosine(rung["agreement"]),
            "p50": f.milliseconds(rung["p50_ms"]),
            "faster than the first": f.times(f.ratio(ladder[0]["p50_ms"], rung["p50_ms"])),
            "size": f.size(rung["size_bytes"]),
        }
        for rung in ladder
    ]


@dataclass(frozen=True)
class Point:
    """A rung at ``x``, ``y`` (user units), its 95 % interval from ``top`` to ``bottom``, and what stands beside it."""

    x: float
    y: float
    top: float
    bottom: float
    label: str


@dataclass(frozen=True)
class Plot:
    """Points in the picture, ticks of both axes as (place, text), and what a reader who cannot see it is told."""

    points: list[Point]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    metric: str
    description: str


def plot(ladder: Sequence[dict[str, Any]]) -> Plot:
    """Accuracy upwards, p50 to the right from zero. ``ladder``: one rung or more."""
    metric = ladder[0]["metric"]
    slowest = max(rung["p50_ms"] for rung in ladder) or 1.0
    low, high = min(rung["low"] for rung in ladder), max(rung["high"] for rung in ladder)
    span = (high - low) or 1.0

    def x(p50_ms: float) -> float:
        return LEFT + (_RIGHT - LEFT) * p50_ms / slowest

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - low) / span

    points = [Point(x(one["p50_ms"]), y(one["value"]), y(one["high"]), y(one["low"]), one["name"]) for one in ladder]
    told = "; ".join(
        f"{one['name']}: {f.metric(metric, one['value'])} at {f.milliseconds(one['p50_ms'])}" for one in ladder
    )
    return Plot(
        points,
        [(x(part * slowest), f.milliseconds(part * slowest)) for part in (0.25, 0.5, 0.75, 1.0)],
        [(y(low + part * span), f.metric(metric, low + part * span)) for part in (0.0, 0.5, 1.0)],
        metric.replace("_", " "),
        f"{metric.replace('_', ' ')} against p50 of each rung: {told}",
    )
