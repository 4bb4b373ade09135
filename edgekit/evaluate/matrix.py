"""The parity matrix: every model file beside the teacher, its own fp32 and every other file, on the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.evaluate.compare import agreement, parity
from edgekit.evaluate.metrics import score
from edgekit.evaluate.outputs import Outputs

if TYPE_CHECKING:
    from edgekit.data import HeldOut


@dataclass(frozen=True)
class Answered:
    """One file's outputs for the whole set, and those of the same engine's fp32 file."""

    file: str
    engine: str
    precision: str
    outputs: Outputs
    fp32: Outputs


def parity_matrix(
    task: str, files: Sequence[Answered], teacher: Outputs, data: HeldOut, names: list[str], isa: str
) -> list[dict[str, Any]]:
    """One row a file and reference: ``against`` is "teacher", "fp32" (the engine's own) or another file's path.

    Each row: file, engine, precision, isa, against, cosine_mean, cosine_min, max_abs, top1 (share of equal top
    classes; None for embed), n texts; and the file's own metric, value, low, high on ``data`` (95 %).
    """
    rows = []
    for one in files:
        found = score(task, one.outputs, data, teacher=teacher, names=names)
        own = {
            "file": one.file,
            "engine": one.engine,
            "precision": one.precision,
            "isa": isa,
            "metric": found.metric,
            "value": found.value,
            "low": found.low,
            "high": found.high,
        }
        against = {"teacher": teacher, "fp32": one.fp32}
        against |= {other.file: other.outputs for other in files if other.file != one.file}
        for name, reference in against.items():
            near = parity(reference, one.outputs)
            rows.append(
                {
                    **own,
                    "against": name,
                    "cosine_mean": near.cosine_mean,
                    "cosine_min": near.cosine_min,
                    "max_abs": near.max_abs,
                    "top1": None if task == "embed" else agreement(task, reference, one.outputs),
                    "n": len(data),
                }
            )
    return rows
