"""Geometry of the bars. The template draws them as SVG, so a report needs no script and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.report import figures as f

LABEL, BAR, ROW = 150, 430, 26  # widths of the label and the longest bar, height of a row; user units


@dataclass(frozen=True)
class Bar:
    """One bar: ``width`` in user units, ``text`` beside it, ``kind`` a CSS class."""

    y: int
    label: str
    width: float
    text: str
    kind: str


@dataclass(frozen=True)
class Chart:
    """Bars under one another, with what a reader who cannot see them is told."""

    title: str
    bars: list[Bar]

    @property
    def height(self) -> int:
        return ROW * len(self.bars) + 6

    @property
    def description(self) -> str:
        return f"{self.title}: " + "; ".join(f"{bar.label} {bar.text}" for bar in self.bars)


def _chart(title: str, rows: Sequence[tuple[str, float | None, str, str]]) -> Chart:
    """``rows``: label, value, text, kind."""
    known = [abs(value) for _, value, _, _ in rows if value is not None and not f.missing(value)]
    scale = BAR / max(known) if known and max(known) > 0 else 0.0
    bars = [
        Bar(6 + ROW * i, label, max(1.0, abs(value or 0.0) * scale) if not f.missing(value) else 0.0, text, kind)
        for i, (label, value, text, kind) in enumerate(rows)
    ]
    return Chart(title, bars)


def stage_charts(stages: Sequence[dict[str, Any]], one: str = "one text") -> list[Chart]:
    """Size on disk and latency after each stage; charts without a number are left out. ``one``: what is timed."""
    wanted = [("Size on disk", "size_bytes", f.size), (f"Latency p50, {one}", "p50_ms", f.milliseconds)]
    charts = []
    for title, key, show in wanted:
        rows = [(row["stage"], row[key] or None, show(row[key] or None), _kind(row)) for row in stages if row[key]]
        if rows:
            charts.append(_chart(title, rows))
    return charts


def _kind(row: dict[str, Any]) -> str:
    return "kept" if row["kept"] else "dropped"


def sensitivity_charts(ranked: dict[str, list[dict[str, Any]]]) -> list[Chart]:
    """One chart a stage that measured what quantizing each matrix alone costs."""
    charts = (_sensitivity(stage, rows) for stage, rows in ranked.items())
    return [chart for chart in charts if chart is not None]


def _sensitivity(stage: str, rows: Sequence[dict[str, Any]], most: int = 24) -> Chart | None:
    """The worst first; None when the rows have no cost to show."""
    cost = next(
        (key for key in ("cost", "error", "drop", "distance") if isinstance(rows[0].get(key), int | float)), None
    )
    name = next((key for key in ("name", "matrix", "tensor", "node") if key in rows[0]), None)
    if cost is None or name is None:
        return None
    worst = sorted(rows, key=lambda row: -float(row[cost]))[:most]
    return _chart(
        f"{stage}: cost of each matrix alone ({cost})",
        [(_tail(str(row[name])), float(row[cost]), f.small(float(row[cost])), "kept") for row in worst],
    )


def _tail(name: str) -> str:
    return name if len(name) <= 24 else "…" + name[-23:]
