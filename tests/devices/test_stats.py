"""What is said of samples that resemble their neighbours holds as often as it claims."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.devices import stats, warm
from edgekit.devices.profiles.compare import mann_whitney

Floats = npt.NDArray[np.float64]


def series(rho: float, n: int, seed: int) -> Floats:
    """Times around 10 ms; each differs from 10 by ``rho`` of what the one before did, and by chance."""
    draw = np.random.default_rng(seed)
    values = np.empty(n)
    at = draw.normal()
    for place in range(n):
        at = rho * at + draw.normal() * np.sqrt(1 - rho * rho)
        values[place] = 10 + at
    return values


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_the_interval_of_a_mean_holds_it(rho: float) -> None:
    every = [series(rho, 400, seed) for seed in range(80)]
    held = sum(low <= 10 <= high for _, low, high in map(stats.mean_interval, every))
    assert held >= 64, "95 in a hundred, less what few and correlated samples cost"
    naive = sum(abs(one.mean() - 10) <= 1.96 * one.std() / 20 for one in every)
    assert held > naive or not rho, "as if they were independent, it would not"


def test_intervals_of_few_and_of_equal_samples() -> None:
    assert stats.mean_interval(np.array([3.0])) == (3.0, 3.0, 3.0)
    assert stats.mean_interval(np.full(50, 2.5)) == pytest.approx((2.5, 2.5, 2.5))
    assert set(stats.median_draws(np.array([4.0, 4.0]), 10)) == {4.0}
    assert stats.block_length(series(0.9, 1000, 0)) > 2 * stats.block_length(series(0.0, 1000, 0))


def test_a_change_of_level_is_found_where_it_is() -> None:
    values = series(0.0, 60, 1) / 50 + np.r_[np.full(25, 3.0), np.full(35, 1.0)]
    place, p = stats.change_point(values)
    assert (place, p < 1e-6) == (25, True)
    assert not stats.level(values)
    assert stats.level(values[25:])
    flat = [stats.level(series(0.0, 20, k)) for k in range(100)]
    assert sum(flat) >= 90
    almost = np.r_[np.full(20, 1.0), np.full(20, 1.01)]
    assert stats.level(almost), "a change of 1 % is none that a warm-up could wait for"


def timed(monkeypatch: pytest.MonkeyPatch, times: Floats) -> tuple[Callable[[int], None], list[int]]:
    """What runs, and takes ``times`` by the clock that warming up looks at; and the numbers that it was called with."""
    now, called = [0.0], list[int]()
    monkeypatch.setattr(warm.time, "perf_counter", lambda: now[0])

    def run(number: int) -> None:
        called.append(number)
        now[0] += float(times[min(number, len(times) - 1)])

    return run, called


def test_warming_up_ends_when_times_are_level(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    times = np.r_[np.linspace(0.02, 0.005, 40), np.full(400, 0.005)] * draw.normal(1, 0.01, 440)
    run, called = timed(monkeypatch, times)
    runs, stable = warm.warm_up(run, 5)
    assert stable and 40 <= runs <= 80
    assert called == list(range(runs))


@pytest.mark.parametrize(
    ("times", "least", "expected"),
    [
        (1e-3 * 0.99 ** np.arange(1000), 3, (warm.MOST_RUNS, False)),
        (np.array([4.0]), 3, (3, False)),
        (np.array([4.0]), 0, (0, None)),
    ],
    ids=["never level", "slow", "none"],
)
def test_warming_up_is_bounded(
    monkeypatch: pytest.MonkeyPatch, times: Floats, least: int, expected: tuple[int, bool | None]
) -> None:
    run, _ = timed(monkeypatch, times)
    assert warm.warm_up(run, least) == expected


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_mann_and_whitney_as_scipy_has_it(shift: float) -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    a, b = series(0.0, 30, 1), series(0.0, 25, 2) + shift
    for one, other in ((a, b), (np.round(a), np.round(b))):
        theirs = scipy_stats.mannwhitneyu(one, other, method="asymptotic").pvalue
        assert mann_whitney(one, other) == pytest.approx(theirs, rel=1e-6)
    assert mann_whitney(np.ones(9), np.ones(9)) == 1.0
