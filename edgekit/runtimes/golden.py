"""Making golden vectors with a loaded model, and measuring how far this machine's answers may move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgekit.bundle import ModelFile
from edgekit.bundle.golden import NAME, Floats, Golden, Pixels, Tolerance
from edgekit.runtimes import isa

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model

    AnyModel: TypeAlias = Model | DualModel
Raw = dict[str, list[Floats]]

# (max_abs as a share of the largest golden number, 1 - min_cosine), by precision or by (engine, precision). FLOOR: no
# tolerance is less, since another thread count, processor or engine version sums in another order, and in INT8 may
# round to the next step. STATED: for instruction sets that nobody ran.
Shares = dict[str | tuple[str, str], tuple[float, float]]
FLOOR: Shares = {"fp32": (1e-4, 1e-5), "fp16": (1e-3, 1e-4), "w8a16": (5e-3, 5e-4), "w8a8": (0.02, 2e-3)}
STATED: Shares = {"fp32": (1e-3, 1e-4), "fp16": (0.05, 5e-3), "w8a16": (0.05, 5e-3), "w8a8": (0.35, 0.05)}
LONGEST = 160  # pixels of a golden picture's longer side: 16 photographs take 0.9 MB
MARGIN = 2.0  # measured differences are doubled: the next batch need not be one that we tried


def make(models: AnyModel | Mapping[str, AnyModel], examples: Sequence[Any]) -> dict[str, Any]:
    """Golden vectors of ``examples`` for the model files of one bundle, which share tokenizer and task.

    ``models``: by path in the bundle; a lone model goes by its ``file``. ``examples``: texts, or (picture, caption),
    whose pictures are kept as uint8, reduced where a side is longer than :data:`LONGEST`. The reference is each
    example alone. What batching changes is measured (all together, in pairs with the longest text, in threes) and
    goes, doubled, into the tolerance of this machine's instruction set. Returns ``{"manifest": for Manifest.golden,
    "files": {name: bytes}}``.
    """
    named: dict[str, AnyModel] = dict(models) if isinstance(models, Mapping) else {models.file: models}
    first = next(iter(named.values()))
    pictures = [] if first.spec.pictures is None else [_small(picture) for picture, _ in examples]
    texts = [text for _, text in examples] if pictures else list(examples)
    examples = list(zip(pictures, texts, strict=True)) if pictures else texts
    outputs: dict[str, list[Floats]] = {}
    tolerances: list[Tolerance] = []
    for path, model in named.items():
        found, others = alone(model, examples), _in_batches(model, examples)
        for role, (file, precision) in files_of(model, path).items():
            if file in outputs:
                continue  # a tower that several models share
            outputs[file] = found[role]
            moved = [differences(found[role], other[role]) for other in others]
            seen = max(largest for largest, _ in moved), min(cosine for _, cosine in moved)
            scale, kind = _scale(found[role]), (model.engine, precision)
            tolerances += [
                _tolerance(file, isa.detect(), "measured", seen, scale, FLOOR, kind),
                _tolerance(file, "*", "stated", seen, scale, STATED, kind),
            ]
    golden = Golden(texts, [first.token_ids(text) for text in texts], outputs, tolerances, pictures)
    return {"manifest": golden.to_manifest(), "files": {NAME: golden.to_bytes()}}


def measured(golden: Golden, model: ModelFile, where: str, outputs: Sequence[Floats], tower: str = "") -> Tolerance:
    """The tolerance of ``model``, or of one ``tower`` of it, where the instruction set ``where`` gave ``outputs``."""
    one = model.tower(tower)
    file, precision = file_of(model, tower), model.precision if one is None else one.precision
    expected = golden.outputs[file]
    seen = differences(expected, outputs)
    return _tolerance(file, where, "measured", seen, _scale(expected), FLOOR, (model.engine, precision))


def on_gpu(file: str, precision: str, outputs: Sequence[Floats]) -> Tolerance:
    """What a GPU's answers may be off: as for 16 bits or more of rounding, stated, as nobody measured it.

    TensorRT computes FP32 in TF32 on Ampere and later, whose 10 bits of mantissa are float16's.
    """
    wider = max(STATED["fp16"], STATED.get(precision, STATED["w8a8"]))
    return Tolerance(file, "gpu", wider[0] * _scale(outputs), 1 - wider[1], "stated")


def file_of(model: ModelFile, tower: str = "") -> str:
    """The path of ``tower``, or of ``model`` itself, whose outputs go by it."""
    one = model.tower(tower)
    return model.path if one is None else one.path


def files_of(model: AnyModel, path: str = "") -> dict[str, tuple[str, str]]:
    """(file, precision) of each tower of ``model``; of a model of texts, under "", ``path`` or its own file."""
    towers = {role: (one.path, one.precision) for role, one in model.towers.items()}
    return towers or {"": (path or model.file, model.precision)}


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


def alone(model: AnyModel, examples: Sequence[Any]) -> Raw:
    """The raw outputs of each example, run by itself, by tower; of a model of texts, under ""."""
    return _joined(model.raw([example]) for example in examples)


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


def _in_batches(model: AnyModel, examples: list[Any]) -> list[Raw]:
    """The same outputs by other roads: all in one list, each beside the longest text, three at a time."""
    longest = max(examples, key=lambda one: len(one if isinstance(one, str) else one[1]))
    pairs = ({role: found[1:] for role, found in model.raw([longest, one]).items()} for one in examples)
    threes = (model.raw(examples[start : start + 3]) for start in range(0, len(examples), 3))
    return [model.raw(examples), _joined(pairs), _joined(threes)]


def _joined(parts: Iterable[Raw]) -> Raw:
    found: Raw = {}
    for part in parts:
        for role, outputs in part.items():
            found.setdefault(role, []).extend(outputs)
    return found


def _small(picture: Any) -> Pixels:
    """``picture`` as uint8 (H, W, 3), its longer side at most ``LONGEST``."""
    from edgekit.runtimes.vision.decode import decode  # not for texts alone

    found = decode(picture)
    found.thumbnail((LONGEST, LONGEST))
    return np.asarray(found)
