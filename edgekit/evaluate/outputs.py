"""What models answer, in one shape each task, checked once before it is counted.

classify: float (n, C) logits. embed: float (n, D), or a tuple of two such for pairs. tag: a list of (words, C) logits.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError, EngineError

Array: TypeAlias = NDArray[np.floating]
Outputs: TypeAlias = Array | list[Array] | tuple[Array, Array]


def rows(outputs: Outputs) -> NDArray[np.float64]:
    """All outputs as rows of one float64 matrix. Raises EngineError on NaN or infinity: such a model has no answer."""
    given = [outputs] if isinstance(outputs, np.ndarray) else list(outputs)
    parts: list[NDArray[np.float64]] = [np.asarray(part, np.float64) for part in given]
    filled = [part for part in parts if part.size]
    width = parts[0].shape[-1] if parts else 0
    matrix: NDArray[np.float64] = np.concatenate(filled) if filled else np.zeros((0, width))
    if not np.isfinite(matrix).all():
        bad = int((~np.isfinite(matrix)).any(axis=-1).sum())
        raise EngineError(f"{bad} of {len(matrix)} outputs hold NaN or infinity", expected="finite numbers")
    return matrix


def pair(outputs: Outputs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two embedding matrices of a set of pairs, (n, D) each."""
    if not isinstance(outputs, tuple) or len(outputs) != 2 or len(outputs[0]) != len(outputs[1]):
        raise DataError(
            "outputs for pairs", found=type(outputs).__name__, expected="two embedding matrices of one length"
        )
    return rows(outputs[0]), rows(outputs[1])


def cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each row of ``a`` with that of ``b``, (n,); two zero rows are alike (1), one zero row is unlike (0)."""
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dot = (a * b).sum(axis=1)
    alike = (np.linalg.norm(a, axis=1) == 0) & (np.linalg.norm(b, axis=1) == 0)
    return np.where(alike, 1.0, np.divide(dot, length, out=np.zeros_like(dot), where=length > 0)).clip(-1.0, 1.0)
