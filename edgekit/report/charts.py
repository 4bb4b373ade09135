"""Geometry of the bars. The template draws them as SVG, so a report needs no script and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.report import figures as f

WIDTH, LABEL, BAR, ROW = 480, 178, 222, 24  # of all, the label, the longest bar, height of a row; user units
LETTERS = 23  # that fit into the label


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
    description: str
    bars: list[Bar]

    @property
    def height(self) -> int:
        return ROW * len(self.bars) + 6


def chart(title: str, rows: Sequence[tuple[str, float | None, str, str]]) -> Chart:
    """``rows``: label, value, text, kind (kept, dropped). A value that is no number has its text and no bar."""
    known = [abs(value) for _, value, _, _ in rows if value is not None and not f.missing(value)]
    scale = BAR / max(known) if known and max(known) > 0 else 0.0
    bars = [
        Bar(6 + ROW * i, _head(label), max(1.0, abs(value or 0.0) * scale) if not f.missing(value) else 0.0, text, kind)
        for i, (label, value, text, kind) in enumerate(rows)
    ]
    said = "; ".join(
        f"{label} {text}" + (", rolled back" if kind == "dropped" else "") for label, _, text, kind in rows
    )
    return Chart(title, said, bars)


def stage_charts(stages: Sequence[dict[str, Any]], one: str = "one text") -> list[Chart]:
    """Size on disk and latency after each stage; charts without a number are left out. ``one``: what is timed."""
    wanted = [("Size on disk", "size_bytes", f.size), (f"Latency p50, {one}", "p50_ms", f.milliseconds)]
    charts = []
    for title, key, show in wanted:
        rows = [(row["stage"], row[key] or None, show(row[key] or None), _kind(row)) for row in stages if row[key]]
        if rows:
            charts.append(chart(title, rows))
    return charts


def _kind(row: dict[str, Any]) -> str:
    return "kept" if row["kept"] else "dropped"


def sensitivity_charts(ranked: dict[str, list[dict[str, Any]]]) -> list[Chart]:
    """One chart a stage that measured what quantizing each matrix alone costs."""
    charts = []
    for stage, rows in ranked.items():
        worst, cost = worst_matrices(rows)
        if worst:
            bars = [(_tail(name), value, f.small(value), "kept") for name, value in worst]
            more = f", the {len(worst)} worst of {len(rows)}" if len(rows) > len(worst) else ""
            charts.append(chart(f"{stage}: {cost} of each matrix alone{more}", bars))
    return charts


def worst_matrices(rows: Sequence[dict[str, Any]], most: int = 24) -> tuple[list[tuple[str, float]], str]:
    """Name and cost of the matrices that cost most, the worst first, and the cost's name; [] without a cost."""
    cost = next(
        (key for key in ("cost", "error", "drop", "distance") if isinstance(rows[0].get(key), int | float)), None
    )
    name = next((key for key in ("name", "matrix", "tensor", "node") if key in rows[0]), None)
    if cost is None or name is None:
        return [], ""
    costs = [(str(row[name]), float(row[cost])) for row in rows if isinstance(row.get(cost), int | float)]
    return sorted(costs, key=lambda one: -one[1])[:most], cost


def _tail(name: str) -> str:
    return name if len(name) <= LETTERS else "…" + name[1 - LETTERS :]


def _head(name: str) -> str:
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
