"""Accuracy against latency: every version of the model that was measured, and those that none beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.report import figures as f
from edgekit.report.axes import Axis, Tick, spanning
from edgekit.report.boards import label, reference

WIDTH, HEIGHT = 480, 330  # user units
LEFT, RIGHT, TOP, FLOOR = 62, 466, 14, 282
STAGES = "steps"  # the series of those that are not packed
SERIES = 5  # series that have a colour and a shape of their own; later ones take them again
_RINGS = (15, 24, 34)  # distances at which a mark's number may stand
_AROUND = ((1, -1), (-1, -1), (1, 1), (-1, 1), (0, -1.3), (0, 1.3), (1.3, 0), (-1.3, 0))


@dataclass(frozen=True)
class Version:
    """One version of the model: ``value`` of the metric with its interval, ``ms`` its p50 on ``where``."""

    name: str
    series: str
    where: str
    value: float
    low: float | None
    high: float | None
    ms: float


@dataclass(frozen=True)
class Mark:
    """A version on the picture; its number stands at ``text_x``, ``text_y``."""

    number: int
    version: Version
    series: int
    x: float
    y: float
    low_y: float
    high_y: float
    text_x: float
    text_y: float


@dataclass(frozen=True)
class Plot:
    """The picture; ``frontier`` is an SVG path, ``best`` the numbers of the marks on it."""

    title: str
    description: str
    metric: str
    marks: list[Mark]
    series: list[str]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    frontier: str
    best: list[int]


def versions(data: dict[str, Any]) -> list[Version]:
    """The stages that were timed, and each packed file on each board that measured this very bundle.

    A file's accuracy is that of the machine that made the bundle: boards time it and hold it to golden vectors.
    """
    where = f.plain_name(str(data["environment"].get("cpu") or "the machine that made it"))
    found = [
        Version(str(stage["stage"]), STAGES, where, stage["value"], stage["low"], stage["high"], stage["p50_ms"])
        for stage in data["stages"]
        if stage["kept"] and stage["stage"] != "pack" and _number(stage["value"]) and _positive(stage["p50_ms"])
    ]
    scores = {row.get("file"): row for row in data["parity"] if _number(row.get("value"))}
    for board in data["boards"]:
        if board["of"] == "other":
            continue
        for row in reference(board["rows"]):
            score = scores.get(row.get("file")) or _packed(data, row)
            if score and row.get("tower") is None and _positive(row.get("p50_ms")):
                threads = row.get("threads")
                name = label(row) + (f", {threads} threads" if isinstance(threads, int) and threads > 1 else "")
                series = "packed files, where they were made" if board["made"] else board["title"]
                found.append(
                    Version(name, series, board["title"], score["value"], score.get("low"), score.get("high"),
                            row["p50_ms"])
                )  # fmt: skip
    return found


def plot(found: Sequence[Version], metric: str) -> Plot | None:
    """The picture of ``found``; None of fewer than two."""
    if len(found) < 2:
        return None
    x = spanning([one.ms for one in found], LEFT, RIGHT, log=True)
    ends = [end for one in found for end in (one.low, one.high, one.value) if end is not None and not f.missing(end)]
    y = spanning(ends, FLOOR, TOP, room=0.05)
    names = list(dict.fromkeys(one.series for one in found))
    best = frontier(found)
    numbers = [found.index(one) + 1 for one in best]
    said = "; ".join(f"{one.name}, {f.metric(metric, one.value)} at {f.milliseconds(one.ms)}" for one in best)
    return Plot(
        f"{metric.replace('_', ' ')} against latency (p50)",
        f"{len(found)} versions. None beats these in both: {said}. The table below holds every one.",
        metric,
        _marks(found, names, x, y),
        names,
        x.ticks(7, lambda value: f"{value:g}"),
        y.ticks(6, lambda value: f"{100 * value:g} %" if metric in f.SHARES else f"{value:g}"),
        _steps([(x.at(one.ms), y.at(one.value)) for one in best]),
        numbers,
    )


def frontier(found: Sequence[Version]) -> list[Version]:
    """Those of ``found`` that none is both faster and better than, the fastest first."""
    best: list[Version] = []
    for one in sorted(found, key=lambda one: (one.ms, -one.value)):
        if not best or one.value > best[-1].value:
            best.append(one)
    return best


def _marks(found: Sequence[Version], names: list[str], x: Axis, y: Axis) -> list[Mark]:
    taken = [(x.at(one.ms), y.at(one.value)) for one in found]
    marks = []
    for number, one in enumerate(found, start=1):
        at = x.at(one.ms), y.at(one.value)
        text = _free(at, taken)
        taken.append(text)
        low, high = (y.at(end if end is not None and not f.missing(end) else one.value) for end in (one.low, one.high))
        marks.append(Mark(number, one, names.index(one.series) % SERIES, *at, low, high, *text))
    return marks


def _free(at: tuple[float, float], taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """A place for a number near ``at`` that covers no mark and no other number, or the least crowded one."""
    places = [(at[0] + dx * ring * 0.75, at[1] + dy * ring * 0.75) for ring in _RINGS for dx, dy in _AROUND]
    inside = [(x, y) for x, y in places if LEFT + 8 < x < RIGHT and TOP + 6 < y < FLOOR - 6] or places

    def room(place: tuple[float, float]) -> float:
        return min(((place[0] - x) ** 2 + (place[1] - y) ** 2) ** 0.5 for x, y in taken)

    return next((place for place in inside if room(place) >= 13), max(inside, key=room))


def _steps(points: Sequence[tuple[float, float]]) -> str:
    """A stair through ``points`` from left to right: up only where the next one is."""
    if not points:
        return ""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    return path + "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])


def _packed(data: dict[str, Any], row: dict[str, Any]) -> dict[str, Any] | None:
    """The score of the last stage, where it is of this row's file: bundles of one file have no matrix."""
    models = data["models"]
    if len(models) != 1 or models[0]["path"] != row.get("file") or not _number(data["result"].get("value")):
        return None
    return dict(data["result"])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not f.missing(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0
