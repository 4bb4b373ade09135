"""Making golden vectors with a loaded model, and measuring how far this machine's answers may move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.bundle import ModelFile
from edgekit.bundle.golden import NAME, Floats, Golden, Tolerance
from edgekit.runtimes import isa
from edgekit.runtimes.model import Model

# (max_abs as a share of the largest golden number, 1 - min_cosine), by precision or by (engine, precision). FLOOR: no
# tolerance is less, since another thread count, processor or engine version sums in another order, and in INT8 may
# round to the next step. STATED: for instruction sets that nobody ran.
Shares = dict[str | tuple[str, str], tuple[float, float]]
FLOOR: Shares = {"fp32": (1e-4, 1e-5), "fp16": (1e-3, 1e-4), "w8a16": (5e-3, 5e-4), "w8a8": (0.02, 2e-3)}
STATED: Shares = {"fp32": (1e-3, 1e-4), "fp16": (0.05, 5e-3), "w8a16": (0.05, 5e-3), "w8a8": (0.35, 0.05)}
MARGIN = 2.0  # measured differences are doubled: the next batch need not be one that we tried


def make(models: Model | Mapping[str, Model], texts: Sequence[str]) -> dict[str, Any]:
    """Golden vectors of ``texts`` for the model files of one bundle, which share tokenizer and task.

    ``models``: by path in the bundle; a lone model goes by its ``file``. The reference is each text alone. What
    batching changes is measured (all together, in pairs with the longest, in threes) and goes, doubled, into the
    tolerance of this machine's instruction set. Returns ``{"manifest": for Manifest.golden, "files": {name: bytes}}``.
    """
    named = {models.file: models} if isinstance(models, Model) else dict(models)
    texts = list(texts)
    outputs: dict[str, list[Floats]] = {}
    tolerances: list[Tolerance] = []
    for file, model in named.items():
        outputs[file] = alone(model, texts)
        largest, cosine = 0.0, 1.0
        for other in _in_batches(model, texts):
            moved, alike = differences(outputs[file], other)
            largest, cosine = max(largest, moved), min(cosine, alike)
        scale, kind = _scale(outputs[file]), (model.engine, model.precision)
        tolerances += [
            _tolerance(file, isa.detect(), "measured", (largest, cosine), scale, FLOOR, kind),
            _tolerance(file, "*", "stated", (largest, cosine), scale, STATED, kind),
        ]
    preprocessor = next(iter(named.values())).pipeline.preprocessor
    ids = [[window.ids for window in preprocessor.windows([text])] for text in texts]
    golden = Golden(texts, ids, outputs, tolerances)
    return {"manifest": golden.to_manifest(), "files": {NAME: golden.to_bytes()}}


def measured(golden: Golden, model: ModelFile, where: str, outputs: Sequence[Floats]) -> Tolerance:
    """The tolerance of ``model`` on instruction set ``where``, on which its golden texts gave ``outputs``."""
    expected = golden.outputs[model.path]
    kind = (model.engine, model.precision)
    return _tolerance(model.path, where, "measured", differences(expected, outputs), _scale(expected), FLOOR, kind)


def _tolerance(
    file: str,
    where: str,
    basis: str,
    seen: tuple[float, float],
    scale: float,
    least: Shares,
    kind: tuple[str, str],
) -> Tolerance:
    """``seen``: largest absolute difference and least cosine, doubled here."""
    share, angle = least.get(kind) or least.get(kind[1]) or least["w8a8"]
    return Tolerance(file, where, max(MARGIN * seen[0], share * scale), 1 - max(MARGIN * (1 - seen[1]), angle), basis)


def _scale(outputs: Sequence[Floats]) -> float:
    """The largest number of ``outputs``."""
    return max((float(np.abs(output).max()) for output in outputs if output.size), default=1.0)


def alone(model: Model, texts: Sequence[str]) -> list[Floats]:
    """The raw output of each text, run by itself."""
    return [model.logits([text])[0] for text in texts]


def differences(golden: Sequence[Floats], found: Sequence[Floats]) -> tuple[float, float]:
    """(largest absolute difference, least cosine of a row) between two lists of outputs; (inf, -1) for other shapes."""
    largest, cosine = 0.0, 1.0
    for a, b in zip(golden, found, strict=True):
        if a.shape != b.shape or not np.isfinite(b).all():
            return np.inf, -1.0
        if not a.size:
            continue
        rows, others = np.atleast_2d(a).astype(np.float64), np.atleast_2d(b).astype(np.float64)
        largest = max(largest, float(np.abs(rows - others).max()))
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
        cosine = min(cosine, float((((rows * others).sum(1) + 1e-12) / (lengths + 1e-12)).min()))
    return largest, cosine


def _in_batches(model: Model, texts: list[str]) -> list[list[Floats]]:
    """The same outputs by other roads: all in one list, each beside the longest text, three at a time."""
    longest = max(texts, key=len)
    threes: list[Floats] = []
    for start in range(0, len(texts), 3):
        threes += list(model.logits(texts[start : start + 3]))
    return [list(model.logits(texts)), [model.logits([longest, text])[1] for text in texts], threes]
