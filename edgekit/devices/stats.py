"""What latency samples tell, though each resembles the one before it: bootstraps of blocks, and change points."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DRAWS, SEED = 1000, 0
_AT_ONCE = 1 << 19  # samples that are drawn at once: 4 MB
_SHARE = (2.5, 97.5)  # percentiles of a 95 % interval


def block_length(samples: Floats) -> int:
    """How many samples in a row must stay together so that blocks are nearly independent, at least n^(1/3).

    Carlstein's rule for a first-order autoregression ("The use of subseries values for estimating the variance of a
    general statistic from a stationary sequence", Annals of Statistics 14(3), 1986), at most a tenth of the samples.
    """
    n = len(samples)
    least = math.ceil(n ** (1 / 3))
    centred = samples - samples.mean()
    power = float(centred @ centred)
    rho = float(centred[1:] @ centred[:-1]) / power if power > 0 else 0.0
    rho = min(max(rho, 0.0), 0.99)
    wanted = math.ceil((2 * rho / (1 - rho * rho)) ** (2 / 3) * n ** (1 / 3))
    return max(1, min(max(least, wanted), max(1, n // 10)))


def mean_interval(samples: Floats) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by a moving block bootstrap (Künsch, Annals of Statistics 17(3), 1989).

    Blocks wrap around at the end.
    """
    n, size = len(samples), block_length(samples)
    blocks = math.ceil(n / size)
    summed = np.concatenate([[0.0], np.cumsum(np.concatenate([samples, samples[:size]]))])
    sums = summed[size : size + n] - summed[:n]  # of the block that starts at each sample
    draw = np.random.default_rng(SEED)
    means = sums[draw.integers(0, n, (DRAWS, blocks))].sum(axis=1) / (blocks * size)
    low, high = np.percentile(means, _SHARE)
    return float(samples.mean()), float(low), float(high)


def median_draws(samples: Floats, draws: int = DRAWS, seed: int = SEED) -> Floats:
    """Medians of ``draws`` series as long as ``samples``, each put together of blocks of it."""
    n, size = len(samples), block_length(samples)
    wrapped, blocks = np.concatenate([samples, samples[:size]]), math.ceil(n / size)
    draw, steps = np.random.default_rng(seed), np.arange(size)
    found = []
    for first in range(0, draws, at_once := max(1, _AT_ONCE // n)):
        starts = draw.integers(0, n, (min(at_once, draws - first), blocks, 1))
        found.append(np.median(wrapped[(starts + steps).reshape(len(starts), -1)[:, :n]], axis=1))
    return np.concatenate(found)


def change_point(samples: Floats) -> tuple[int, float]:
    """Where the level most likely changes: (place of the first sample after it, approximate p of there being none).

    Pettitt, "A non-parametric approach to the change-point problem", Applied Statistics 28(2), 1979.
    """
    n = len(samples)
    ordered = np.sort(samples)
    ranks = (np.searchsorted(ordered, samples, "left") + np.searchsorted(ordered, samples, "right") + 1) / 2
    walk = np.abs(2 * np.cumsum(ranks)[:-1] - np.arange(1, n) * (n + 1))
    place = int(np.argmax(walk))
    p = 2 * math.exp(-6 * float(walk[place]) ** 2 / (n**3 + n**2))
    return place + 1, min(1.0, p)


def level(samples: Floats, tolerance: float = 0.03, p: float = 0.01) -> bool:
    """Whether ``samples`` have no change point, or one so small that the medians differ by no more than the share."""
    place, chance = change_point(samples)
    before, after = np.median(samples[:place]), np.median(samples[place:])
    return chance >= p or bool(abs(after - before) <= tolerance * before)
