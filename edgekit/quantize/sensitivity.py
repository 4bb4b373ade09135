"""Which weight matrices INT8 hurts: each is quantized alone, and the outputs are held against fp32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluate import parity
from edgekit.progress import Progress, Silent, track
from edgekit.quantize.backend import Backend

TEXTS = 24  # enough to order matrices whose costs differ by factors, at a fraction of a second each

Outputs = NDArray[np.float32]


@dataclass(frozen=True)
class Sensitivity:
    """``error``: root mean square of the outputs' change by that of the outputs, with this matrix alone in INT8."""

    matrix: str
    error: float
    cosine_mean: float
    parameters: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the report."""
        return asdict(self)


def rank(
    backend: Backend, model: Any, reference: Outputs, outputs: Callable[[Any], Outputs], progress: Progress = Silent()
) -> list[Sensitivity]:
    """Every weight matrix that ``model`` holds in INT8, the one that costs most first.

    ``reference``: fp32's outputs, float32 (rows, width); ``outputs``: what a model of ``backend`` gives on the same
    inputs.
    """
    matrices = backend.matrices()
    scale = float(np.sqrt(np.mean(np.square(reference)))) or 1.0
    found = []
    for name, parameters in track(progress, "sensitivity of each matrix", matrices.items(), len(matrices)):
        alone = outputs(backend.keep_float(model, set(matrices) - {name}))
        error = float(np.sqrt(np.mean(np.square(alone - reference)))) / scale
        found.append(Sensitivity(name, error, parity(reference, alone).cosine_mean, parameters))
    return sorted(found, key=lambda s: (-s.error, s.matrix))
