"""A long run: p50, temperature and clock over time, one picture each with one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.report import figures as f
from edgekit.report.axes import Tick, spanning

WIDTH, HEIGHT, LEFT, RIGHT, TOP, FLOOR = 480, 150, 62, 452, 12, 118  # user units
_CURVES = (
    ("p50_ms", "Latency p50, ms", f.milliseconds),
    ("temperature_c", "Temperature, °C", lambda value: f"{value:.1f} °C"),
    ("frequency_mhz", "Clock, MHz", lambda value: f"{value:.0f} MHz"),
)


@dataclass(frozen=True)
class Curve:
    """One quantity over time; ``path`` has gaps where nothing was read, ``bands`` are from-to where it throttled."""

    title: str
    description: str
    path: str
    bands: list[tuple[float, float]]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def curves(sustain: dict[str, Any]) -> list[Curve]:
    """The pictures of a profile's ``sustain``; quantities that were never read are left out."""
    series = sustain.get("series")
    times = _numbers(series.get("t_s")) if isinstance(series, dict) else []
    if not isinstance(series, dict) or len([t for t in times if t is not None]) < 2:
        return []
    x = spanning([t for t in times if t is not None], LEFT, RIGHT, room=0.01)
    throttled = series.get("throttled")
    flags = throttled if isinstance(throttled, list) else []
    bands = [(x.at(a), x.at(b)) for a, b in _spans(times, flags)]
    found: list[Curve] = []
    for key, title, show in _CURVES:
        values = _numbers(series.get(key))
        known = [value for value in values if value is not None]
        if not known:
            continue
        y = spanning([*known, min(known) * 0.98], FLOOR, TOP)
        points = [
            None if t is None or value is None else (x.at(t), y.at(value))
            for t, value in zip(times, values, strict=False)
        ]
        found.append(
            Curve(
                title,
                f"From {show(known[0])} at the start to {show(known[-1])} at the end; "
                f"least {show(min(known))}, most {show(max(known))}{_throttled(flags) if not found else ''}.",
                _path(points),
                bands,
                x.ticks(6, lambda value: f"{value:g} s"),
                y.ticks(3, f.short),
            )
        )
    return found


def summary(sustain: dict[str, Any]) -> str:
    """The first minute against the last in one sentence; empty without either."""
    first, last = sustain.get("first_minute_p50_ms"), sustain.get("last_minute_p50_ms")
    ratio = sustain.get("ratio") or f.ratio(last, first)
    if f.missing(first) or f.missing(last) or ratio is None:
        return ""
    window = sustain.get("window_s")
    span = "minute" if window in (None, 60) else f.seconds(window)
    text = _what(sustain) + f"p50 of the first {span} {f.milliseconds(first)}, of the last {f.milliseconds(last)}: "
    text += f.times(ratio)
    missing = [name for key, name in (("temperature_c", "temperature"), ("frequency_mhz", "clock"))
               if not any(value is not None for value in _numbers((sustain.get("series") or {}).get(key)))]  # fmt: skip
    return text + (f". Not measured, since nothing shows it there: {', '.join(missing)}." if missing else ".")


def _what(sustain: dict[str, Any]) -> str:
    """What ran and how long, with a colon after it."""
    parts = [str(sustain[key]) for key in ("engine", "file") if sustain.get(key)]
    threads, seconds = sustain.get("threads"), sustain.get("seconds")
    parts += [f"{threads} thread{'s' * (threads != 1)}"] if isinstance(threads, int) else []
    parts += [f.seconds(seconds)] if isinstance(seconds, int | float) else []
    return f"{', '.join(parts)}: " if parts else ""


def _spans(times: Sequence[float | None], flags: Sequence[Any]) -> list[tuple[float, float]]:
    """From-to of each stretch of readings in which it throttled, up to the next reading; seconds."""
    spans: list[tuple[float, float]] = []
    for start, end, on in zip(times, times[1:], flags, strict=False):
        if on and start is not None and end is not None:
            if spans and spans[-1][1] == start:
                start = spans.pop()[0]
            spans.append((start, end))
    return spans


def _throttled(flags: Sequence[Any]) -> str:
    known = [flag for flag in flags if flag is not None]
    if not flags:
        return ""
    if not known:
        return "; whether it throttled is not known"
    return f"; throttled in {sum(map(bool, known))} of {len(known)} readings" if any(known) else "; never throttled"


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    path, down = "", False
    for point in points:
        if point is not None:
            path += f"{'L' if down else 'M'}{point[0]:.1f} {point[1]:.1f}"
        down = point is not None
    return path


def _numbers(values: Any) -> list[float | None]:
    if not isinstance(values, list):
        return []
    return [float(value) if isinstance(value, int | float) and not f.missing(value) else None for value in values]
