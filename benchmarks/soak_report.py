"""What the soak says of its records: memory and its slope, and the misses that no fault explains."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

NAP_S, STALL_S = 0.005, 0.010
WATCH = """
import os, sys, time
core, nap, stall, parent = int(sys.argv[1]), *map(float, sys.argv[2:4]), int(sys.argv[4])
os.sched_setaffinity(0, {core})
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
except PermissionError:
    pass
before = time.monotonic()
while os.getppid() == parent:
    time.sleep(nap)
    now = time.monotonic()
    if now - before > nap + stall:
        print(before, now, flush=True)
    before = now
"""


class Stalls:
    """Times at which the machine itself stood still: on each core a process, of real-time priority where that is
    allowed, sleeps 5 ms at a time and tells when it woke more than 10 ms too late."""

    def __init__(self) -> None:
        line = [sys.executable, "-c", WATCH]
        self._watchers = [
            subprocess.Popen([*line, *map(str, (core, NAP_S, STALL_S, os.getpid()))], stdout=subprocess.PIPE, text=True)
            for core in sorted(os.sched_getaffinity(0))
        ]

    def end(self) -> list[tuple[float, float]]:
        """From when to when, seconds of the monotonic clock."""
        found = []
        for watcher in self._watchers:
            watcher.terminate()
            said, _ = watcher.communicate()
            found += [(float(since), float(until)) for since, until in map(str.split, said.splitlines())]
        return sorted(found)


class Kept:
    """Pairs of numbers, in memory that was taken and touched before the start: the soak's own records do not grow."""

    def __init__(self, most: int = 200_000) -> None:
        self._pairs, self._length = np.full((most, 2), np.nan), 0

    def add(self, first: float, second: float) -> None:
        """Beyond ``most`` it raises IndexError."""
        self._pairs[self._length] = first, second
        self._length += 1

    def __call__(self) -> npt.NDArray[np.float64]:
        """(N, 2)."""
        return self._pairs[: self._length]


class _Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd".split()] + [
        (name, ctypes.c_size_t) for name in "usmblks fsmblks uordblks fordblks keepcost".split()
    ]


_mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
if _mallinfo is not None:
    _mallinfo.restype = _Heap


def heap_mb() -> float:
    """What this process holds in malloc's memory, 10^6 bytes, engines and numpy with it: a leak shows here and the
    allocator's own reserves do not. NaN where the C library does not tell (glibc 2.33 and newer do)."""
    if _mallinfo is None:
        return float("nan")
    found = _mallinfo()
    return float(found.uordblks + found.hblkhd) / 1e6


def stolen_s() -> float:
    """Seconds, of all cores together since the machine started, in which the host ran something else while this machine
    wanted to run (steal in /proc/stat). NaN where the kernel does not tell."""
    try:
        with open("/proc/stat") as file:
            return int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return float("nan")


def blocks_mb(samples: npt.NDArray[np.float64], blocks: int = 12) -> list[float]:
    """Means over equal parts of the run, the warm-up too."""
    return [round(float(part[:, 1].mean()), 1) for part in np.array_split(samples, blocks) if len(part)]


def slope(samples: npt.NDArray[np.float64], blocks: int = 12) -> list[float] | None:
    """MB an hour of (seconds, MB) after the first fifth, and its 95 % interval; None for too few."""
    kept = samples[len(samples) // 5 :]
    if len(kept) < 2 * blocks:
        return None
    means = np.array([part.mean(0) for part in np.array_split(kept, blocks)])
    fit = stats.linregress(means[:, 0] / 3600, means[:, 1])
    half = float(stats.t.ppf(0.975, blocks - 2) * fit.stderr)
    return [float(fit.slope), float(fit.slope) - half, float(fit.slope) + half]


def bursts(
    strays: list[tuple[float, str]],
    windows: list[tuple[float, float, str]],
    stalls: list[tuple[float, float]],
    stolen: npt.NDArray[np.float64],
    began: float,
    apart_s: float = 0.25,
) -> list[dict[str, Any]]:
    """Misses that no window holds, in groups: when each began, how long it was, what the fault before it was, and how
    long a core stood still in it or in the half second before. ``stolen``: (time, :func:`stolen_s`), once a second; a
    group is told what the host took from a second before it to a second after."""
    groups: list[list[tuple[float, str]]] = []
    for at, why in sorted(strays):
        if not groups or at - groups[-1][-1][0] > apart_s:
            groups.append([])
        groups[-1].append((at, why))
    found = []
    for group in groups:
        since, until = group[0][0], group[-1][0]
        before = [(end, kind) for _, end, kind in windows if end <= since]
        taken = np.diff(np.interp([since - 1, until + 1], stolen[:, 0], stolen[:, 1]))[0] if len(stolen) else np.nan
        found.append(
            {
                "at_s": round(since - began, 1),
                "lasted_ms": round(1e3 * (until - since)),
                "missed": dict(Counter(why for _, why in group)),
                "stalled_ms": round(1e3 * sum(b - a for a, b in stalls if since - 0.5 <= b and a <= until)),
                "stolen_ms": None if np.isnan(taken) else round(1e3 * taken),
                "after": f"{before[-1][1]}, {since - before[-1][0]:.2f} s after its window" if before else "the start",
            }
        )
    return found
