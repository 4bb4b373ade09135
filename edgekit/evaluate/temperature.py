"""The temperature that makes a dual encoder's zero-shot scores honest."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from edgekit.errors import InputError
from edgekit.runtimes.dual import DualSpec

_LOWEST, _HIGHEST = 0.02, 50.0
_GOLDEN = (5**0.5 - 1) / 2


def fit_temperature(cosines: npt.NDArray[np.float32], right: npt.NDArray[np.int64], spec: DualSpec) -> DualSpec:
    """``spec`` with the ``temperature``, 0.02 to 50, of least negative log-likelihood (Guo et al. 2017, section 4.2).

    ``cosines``: float32 (n, C) of n held-out pictures and C labels; ``right``: each one's label, int64 (n,). With a
    ``logit_bias`` each label counts as a decision of its own. The order of the labels never changes.
    Raises ``InputError``.
    """
    if cosines.ndim != 2 or not cosines.size or right.shape != (len(cosines),):
        raise InputError("cosines", found=f"{cosines.shape} for {right.shape} labels", expected="(n, C) and (n,)")
    if right.min() < 0 or right.max() >= cosines.shape[1]:
        raise InputError("right", found=f"{right.min()} to {right.max()}", expected=f"0 to {cosines.shape[1] - 1}")
    logits = cosines.astype(np.float64) * spec.logit_scale + (spec.logit_bias or 0.0)
    chosen = np.arange(cosines.shape[1]) == right[:, None]

    def loss(power: float) -> float:
        scaled = logits / np.exp(power)
        if spec.logit_bias is None:
            highest = scaled.max(1, keepdims=True)
            normal = highest[:, 0] + np.log(np.exp(scaled - highest).sum(1))
            return float((normal - scaled[chosen]).mean())
        return float(np.logaddexp(0, np.where(chosen, -scaled, scaled)).mean())

    # Golden-section search over the logarithm: the loss is convex in 1 / temperature, so it has one valley.
    low, high = float(np.log(_LOWEST)), float(np.log(_HIGHEST))
    while high - low > 1e-4:
        left, middle = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, middle) if loss(left) <= loss(middle) else (left, high)
    return dataclasses.replace(spec, temperature=float(np.exp((low + high) / 2)))
