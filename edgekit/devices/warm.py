"""Warming a model up until its times are level, within bounds."""

from __future__ import annotations

import time
from collections.abc import Callable

WINDOW = 20  # runs that are looked at: the last ones
MOST_RUNS, MOST_S = 400, 10.0


def warm_up(run: Callable[[int], object], least: int) -> tuple[int, bool | None]:
    """Call ``run`` at least ``least`` times, on until the last ones show no change point; (runs, whether they do not).

    Stops anyway after ``MOST_RUNS`` or ``MOST_S`` seconds, whichever is first, but never before ``least``. With
    ``least`` 0 nothing is run, and nothing is known (None).
    """
    if least == 0:
        return 0, None
    import numpy as np

    from edgekit.devices.stats import level

    times: list[float] = []
    stop = time.perf_counter() + MOST_S
    while True:
        began = time.perf_counter()
        run(len(times))
        now = time.perf_counter()
        times.append(now - began)
        n = len(times)
        if n >= max(least, WINDOW) and n % 5 == 0 and level(np.array(times[-max(WINDOW, least) :])):
            return n, True
        if n >= least and (n >= MOST_RUNS or now >= stop):
            return n, False
