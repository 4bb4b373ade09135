"""One model under load without a pause: how fast in the first minute, how fast in the last, and what the board did."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.devices.boards import identify, look
from edgekit.devices.child import Child
from edgekit.errors import InputError
from edgekit.progress import Progress, Silent
from edgekit.runtimes.telemetry.read import Telemetry
from edgekit.runtimes.telemetry.readings import Readings

SET_POINT_C = 70.0  # of a machine that no board file describes: processors are cooler at rest
LEAST_S, MOST_S = 0.1, 86_400.0
WINDOW_S = 60.0
SLICES, KEEP = 600, 1_000  # entries of the series, and samples that one of them is the median of, at most
_SERIES: dict[str, Callable[[Readings], Any]] = {
    "temperature_c": lambda seen: seen.temperature_c,
    "frequency_mhz": lambda seen: seen.frequency_mhz,
    "throttled": lambda seen: None if seen.throttle is None else seen.throttle.now,
    "power_w": lambda seen: seen.power_w,
}


def set_point_c(root: Path = Path("/")) -> float:
    """°C above which a long run must not begin: where the board's file says that it slows down.

    Such a board shows nothing but its limit. Without a file, or without the number in it, 70.
    """
    board = identify(look(root))
    soft = board.governor.soft_c if board is not None and board.governor is not None else None
    return SET_POINT_C if soft is None else soft


def check_cool(root: Path = Path("/"), allow_hot: bool = False) -> None:
    """Raises ``InputError`` on a board that is already hot, unless ``allow_hot``. One without a sensor may start."""
    limit, now = set_point_c(root), Telemetry(root).read().temperature_c
    if now is not None and now > limit and not allow_hot:
        raise InputError(
            "a sustained run",
            found=f"a board of {now:.1f} °C",
            expected=f"at most {limit:.1f} °C at the start",
            fix="Let it cool, or add --allow-hot.",
        )


def check_seconds(seconds: float) -> None:
    """Raises ``InputError`` for a time that is too short to have a first and a last part, or too long."""
    if not LEAST_S <= seconds <= MOST_S:
        raise InputError("--sustain", found=seconds, expected=f"{LEAST_S:g} to {MOST_S:g} seconds")


def sustain(
    job: dict[str, Any],
    seconds: float,
    *,
    root: Path = Path("/"),
    allow_hot: bool = False,
    progress: Progress = Silent(),
) -> dict[str, Any]:
    """Run ``job`` (of :func:`edgekit.devices.select.jobs`) for ``seconds``; ``sustain`` of docs/profile.schema.json.

    The first and the last minute are compared; of a run below three minutes, its first and last third. Memory is
    bounded, however long it takes: the series has at most 600 entries, each the median of at most 1,000 runs.
    Raises InputError on a board that is hot, EngineError.
    """
    check_seconds(seconds)
    check_cool(root, allow_hot)
    telemetry = Telemetry(root)
    window = min(WINDOW_S, seconds / 3)
    every = max(seconds / SLICES, min(1.0, seconds / 10))
    count = max(1, round(seconds / every))
    start_c = telemetry.read().temperature_c
    series: dict[str, list[Any]] = {"t_s": [], "p50_ms": [], **{name: [] for name in _SERIES}}
    first, last = deque[tuple[float, Any]](), deque[tuple[float, Any]]()
    flags: set[str] = set()
    told_throttle, runs = False, 0
    handle = progress.start("sustain", count)
    with Child({**job, "warmup": 0}) as child:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            taken = child.slice(1, min(every, seconds - passed), most=1 << 30, keep=KEEP)
            seen, now = telemetry.read(), time.monotonic() - began
            samples = np.array(taken["parts_ms"]).sum(axis=1)
            runs += taken["runs"]
            series["t_s"].append(round(now, 3))
            series["p50_ms"].append(round(float(np.median(samples)), 4))
            for name, read in _SERIES.items():
                series[name].append(read(seen))
            if seen.throttle is not None:
                told_throttle = True
                flags |= set(seen.throttle.names)
            if now <= window or not first:
                first.append((now, samples))
            last.append((now, samples))
            while last[0][0] < now - window:
                last.popleft()
            progress.advance(handle, note=_note(seen, series["p50_ms"][-1]))
    progress.finish(handle)
    early, late = (float(np.median(np.concatenate([one for _, one in part]))) for part in (first, last))
    return {
        **{key: job[key] for key in ("file", "engine", "threads", "length")},
        "seconds": series["t_s"][-1],
        "runs": runs,
        "window_s": round(window, 3),
        "first_minute_p50_ms": round(early, 4),
        "last_minute_p50_ms": round(late, 4),
        "ratio": round(late / early, 4),
        "start_c": start_c,
        "limit_c": set_point_c(root),
        "throttle_flags": sorted(flags) if told_throttle else None,
        "series": {name: _told(name, values) for name, values in series.items()},
    }


def _told(name: str, values: list[Any]) -> list[Any] | None:
    """The series, or None where the board never told it."""
    return None if name in _SERIES and all(value is None for value in values) else values


def _note(seen: Readings, p50: float) -> str:
    heat = "" if seen.temperature_c is None else f", {seen.temperature_c:.0f} °C"
    return f"{p50:.2f} ms{heat}{', throttled' if seen.throttle is not None and seen.throttle.now else ''}"
