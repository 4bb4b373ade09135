"""Latency of several models in one run, so that they share the machine's moods."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.progress import Progress, Silent

BLOCK = 16  # texts before the turn passes on: short beside the machine's drift, long beside a cache refill


def interleaved(
    callables: Mapping[str, Callable[[Any], Any]],
    texts: list[Any],
    rounds: int,
    warmup: int,
    progress: Progress = Silent(),
) -> dict[str, NDArray[np.float64]]:
    """Time ``callable(text)`` for every text, ``rounds`` times, the callables taking turns.

    Each runs a block of ``BLOCK`` texts, then the next; the order rotates from block to block and round to round.
    (Turns of one text would time every small model with the caches that a large one has just emptied.)
    ``warmup`` calls of each come first and are not kept. The garbage collector rests meanwhile.
    Returns milliseconds, float64 (rounds * len(texts),), by name, in the order of the calls.
    """
    names = list(callables)
    samples: dict[str, list[int]] = {name: [] for name in names}
    blocks = [texts[i : i + BLOCK] for i in range(0, len(texts), BLOCK)]
    handle = progress.start("timing", rounds * len(blocks))
    collected = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for name in names:
            for i in range(warmup):
                callables[name](texts[i % len(texts)])
        turn = 0
        for _ in range(rounds):
            for block in blocks:
                for k in range(len(names)):
                    name = names[(k + turn) % len(names)]
                    samples[name] += _time(callables[name], block)
                turn += 1
                progress.advance(handle)
            if len(blocks) % len(names) == 0:
                turn += 1  # else a block would meet the same order in every round
    finally:
        if collected:
            gc.enable()
        progress.finish(handle)
    return {name: np.array(taken, np.float64) / 1e6 for name, taken in samples.items()}


def _time(call: Callable[[Any], Any], texts: list[Any]) -> list[int]:
    clock, taken = time.perf_counter_ns, []
    for text in texts:
        began = clock()
        call(text)
        taken.append(clock() - began)
    return taken


def percentiles(samples: NDArray[np.float64]) -> dict[str, float]:
    """p50, p90, p95, p99 and max of milliseconds, under the names of the profile's rows."""
    p50, p90, p95, p99 = np.percentile(samples, [50, 90, 95, 99])
    return {
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "max_ms": float(samples.max()),
    }
