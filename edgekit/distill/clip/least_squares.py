"""Least squares over the hidden channels of a block: which can go, and what the others answer in their place.

Channel pruning by regression as He et al. 2017 (section 3.1) do it, with the channels taken out one at a time: always
the one whose loss the others make good best. For a quadratic error, as this one is, the rule of Hassibi and Stork 1993
(optimal brain surgeon) is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TOGETHER = 32  # rows of channels that went are taken out of the matrices by so many
_RIDGE = 1e-5  # of the channels' mean variance: channels that say the same would have no single answer


@dataclass(frozen=True)
class Moments:
    """Sums over rows of channels h (N,) and what is wanted of them y (M,), all float64."""

    count: float
    channels: Tensor  # (N,) sum of h
    wanted: Tensor  # (M,) sum of y
    square: Tensor  # (N, N) sum of h h^T
    cross: Tensor  # (N, M) sum of h y^T
    energy: float  # sum of |y|^2

    @classmethod
    def none(cls) -> Moments:
        """Of no rows."""
        zero = torch.zeros((), dtype=torch.float64)
        return cls(0.0, zero, zero, zero, zero, 0.0)

    @classmethod
    def of(cls, hidden: Tensor, wanted: Tensor) -> Moments:
        """Of rows ``hidden`` (R, N) and ``wanted`` (R, M).

        In float64 from the start: what is left when the means are taken out may be a millionth of the sums.
        """
        hidden, wanted = hidden.double(), wanted.double()
        return cls(
            float(len(hidden)),
            hidden.sum(0),
            wanted.sum(0),
            hidden.T @ hidden,
            hidden.T @ wanted,
            float(wanted.square().sum()),
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            self.channels + other.channels,
            self.wanted + other.wanted,
            self.square + other.square,
            self.cross + other.cross,
            self.energy + other.energy,
        )


@dataclass(frozen=True)
class Elimination:
    """``order``: channels, the first to go first. ``errors`` (N + 1,): mean squared error with 0 to N gone."""

    order: list[int]
    errors: list[float]


def eliminate(moments: Moments) -> Elimination:
    """All channels in the order in which they can go, the others refitted after each."""
    square, cross, energy = _about_means(moments)
    inverse = torch.linalg.inv(square)
    weights = inverse @ cross
    left = list(range(len(square)))
    error = energy - float((weights * cross).sum())
    order: list[int] = []
    errors = [max(error, 0.0)]
    for done in range(len(square)):
        costs = weights.square().sum(1) / inverse.diagonal().clamp(min=1e-300)
        costs[[i for i, channel in enumerate(left) if channel < 0]] = torch.inf
        place = int(costs.argmin())
        error += float(costs[place])
        order.append(left[place])
        errors.append(max(error, 0.0))
        column = inverse[:, place] / inverse[place, place]
        weights -= torch.outer(column, weights[place])
        inverse -= torch.outer(column, inverse[place])
        left[place] = -1
        if done % _TOGETHER == 0:  # taking rows out is a copy
            rest = [i for i, channel in enumerate(left) if channel >= 0]
            left, weights, inverse = [left[i] for i in rest], weights[rest], inverse[rest][:, rest]
    return Elimination(order, errors)


def refit(moments: Moments, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (M, K) and bias (M,) with which the channels ``keep`` (K,) come nearest to what is wanted, float32."""
    square, cross, _ = _about_means(moments)
    weights = torch.linalg.solve(square[keep][:, keep], cross[keep]).T
    bias = (moments.wanted - weights @ moments.channels[keep]) / moments.count
    return weights.float(), bias.float()


def _about_means(moments: Moments) -> tuple[Tensor, Tensor, float]:
    """Covariances (N, N), (N, M) and the variance of what is wanted; a bias takes the means."""
    count = moments.count
    mean, wanted = moments.channels / count, moments.wanted / count
    square = moments.square / count - torch.outer(mean, mean)
    ridge = _RIDGE * float(square.diagonal().mean()) + 1e-12
    square = square + ridge * torch.eye(len(square), dtype=square.dtype)
    return square, moments.cross / count - torch.outer(mean, wanted), moments.energy / count - float(wanted @ wanted)
