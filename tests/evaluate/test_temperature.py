"""Calibrating zero-shot scores: the temperature that drew the answers is found again."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import InputError
from edgekit.evaluate.temperature import fit_temperature
from edgekit.runtimes.dual import DualSpec


def drawn(spec: DualSpec, count: int = 20_000, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Cosines, and labels drawn with the probabilities that ``spec`` gives them."""
    random = np.random.default_rng(0)
    cosines = random.uniform(-0.1, 0.4, (count, classes)).astype(np.float32)
    scores = spec.scores(cosines).astype(np.float64)
    edges = np.cumsum(scores / scores.sum(1, keepdims=True), axis=1)
    return cosines, (random.random((count, 1)) > edges[:, :-1]).sum(1)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 7.5])
def test_the_temperature_is_found_again(temperature: float) -> None:
    spec = DualSpec(20.0, temperature=temperature)
    cosines, right = drawn(spec)
    found = fit_temperature(cosines, right, DualSpec(20.0))
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.logit_scale == 20.0
    best = found.scores(cosines).max(1)
    hit = found.scores(cosines).argmax(1) == right
    for low, high in ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        these = (best >= low) & (best < high)
        if these.sum() > 500:
            assert best[these].mean() == pytest.approx(hit[these].mean(), abs=0.06), (
                "a score of p is right p of the time"
            )


def test_sigmoids_are_sharpened_where_they_are_right() -> None:
    cosines = np.where(np.eye(4, dtype=bool), 0.3, 0.0).astype(np.float32).repeat(50, axis=0)
    right = np.arange(4).repeat(50)
    spec = DualSpec(10.0, -1.5)
    assert fit_temperature(cosines, right, spec).temperature < 0.1
    assert fit_temperature(cosines, (right + 1) % 4, spec).temperature > 10


def test_what_cannot_be_used_is_told() -> None:
    cosines = np.zeros((3, 2), np.float32)
    for bad in (np.zeros(2, np.int64), np.array([0, 1, 2]), np.array([0, -1, 1])):
        with pytest.raises(InputError, match=r"cosines|right"):
            fit_temperature(cosines, bad, DualSpec())
    with pytest.raises(InputError, match="cosines"):
        fit_temperature(cosines[:0], np.zeros(0, np.int64), DualSpec())
