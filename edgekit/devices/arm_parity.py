"""What emulated boards answered, beside what the bundle promises: rows of the parity matrix, and tolerances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.bundle import ModelFile
from edgekit.bundle.golden import Golden, Tolerance
from edgekit.devices.emulate import Answers, Floats
from edgekit.evaluate.compare import agreement, parity
from edgekit.runtimes.golden import differences, measured

BASIS = "measured under qemu"


def rows(
    task: str, golden: Golden, found: Sequence[Answers], references: Mapping[str, Sequence[Floats]] | None = None
) -> list[dict[str, Any]]:
    """One row a file, processor and reference, with the keys of :func:`edgekit.evaluate.matrix.parity_matrix`.

    ``against`` "golden" is the same file where the bundle was made; ``references`` are further outputs for the golden
    texts, such as {"teacher": ...}. Also in each row: cpu, basis and, for a file that did not answer, reason.
    """
    table = []
    for one in found:
        own = {"file": one.file, "engine": one.engine, "precision": one.precision, "isa": one.isa}
        own |= {"cpu": one.cpu, "basis": BASIS}
        if one.reason:
            nothing = dict.fromkeys(("cosine_mean", "cosine_min", "max_abs", "top1"))
            table.append({**own, "against": "golden", **nothing, "n": 0, "reason": one.reason})
            continue
        own_golden = {"golden": golden.outputs[one.file]} if one.file in golden.outputs else {}
        for name, reference in {**own_golden, **(references or {})}.items():
            a, b = list(reference), one.outputs
            near = parity(_matrix(a), _matrix(b))
            numbers = {"cosine_mean": near.cosine_mean, "cosine_min": near.cosine_min, "max_abs": near.max_abs}
            top1 = None if task in ("embed", "clip") else agreement(task, _matrix(a), _matrix(b))
            table.append({**own, "against": name, **numbers, "top1": top1, "n": len(b)})
    return table


def tolerances(golden: Golden, found: Sequence[Answers]) -> list[Tolerance]:
    """A tolerance for each file that answered, on the instruction set of each processor.

    A file that is beyond what the bundle states for unknown processors gets none: measuring must not excuse it.
    """
    table = []
    for one in found:
        if one.reason or one.file not in golden.outputs:
            continue
        largest, cosine = differences(golden.outputs[one.file], one.outputs)
        stated = golden.tolerance(one.file, "*")
        if largest <= stated.max_abs and cosine >= stated.min_cosine:
            model = ModelFile(one.file, one.engine, one.precision)
            table.append(replace(measured(golden, model, one.isa, one.outputs), basis=BASIS))
    return table


def _matrix(outputs: Sequence[Floats]) -> Floats:
    """(C,), (D,) or (words, C) arrays as rows of one matrix."""
    return np.concatenate([np.atleast_2d(output) for output in outputs])
