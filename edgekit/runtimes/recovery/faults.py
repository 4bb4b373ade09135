"""What can go wrong with an engine, by kind, and the look that every output gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import EngineError

KINDS = ("hang", "throw", "shape", "not finite", "drift", "died", "wire", "memory")


class Fault(EngineError):
    """An engine failed in the way ``kind``, one of :data:`KINDS`, or "closed": its session was replaced meanwhile."""

    def __init__(self, kind: str, what: str, *, found: object = None, expected: object = None) -> None:
        super().__init__(what, found=found, expected=expected)
        self.kind = kind


def thrown(error: BaseException, what: str) -> Fault:
    """``error`` as an engine raised it, on one line."""
    text = " ".join(str(error).split())[:300]
    return Fault("throw", what, found=text if isinstance(error, EngineError) else f"{type(error).__name__}: {text}")


def check_output(
    output: Any, given: npt.NDArray[Any], width: int | None, text: bool, what: str
) -> npt.NDArray[np.float32]:
    """``output`` for the input ``given`` (B, ...): float32, (B, width), for a text also (B, T, width), finite.

    Raises :class:`Fault` of kind "shape" or "not finite".
    """
    if not isinstance(output, np.ndarray) or output.dtype != np.float32:
        found = str(output.dtype) if isinstance(output, np.ndarray) else type(output).__name__
        raise Fault("shape", what, found=found, expected="a float32 array")
    lead = output.shape[:-1]
    fits = lead == given.shape[:1] or (text and lead == given.shape[:2])
    if not fits or (width is not None and output.shape[-1] != width):
        expected = f"({given.shape[0]}, {'any' if width is None else width})"
        raise Fault("shape", what, found=f"shape {output.shape}", expected=expected)
    if not np.isfinite(output).all():
        raise Fault("not finite", what, found="NaN or infinity", expected="finite numbers")
    return output
