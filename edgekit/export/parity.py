"""How far an exported model is from torch, in the engine that it was made for, at every shape."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.bundle.records import TaskSpec
from edgekit.distill.encoder import Encoder
from edgekit.distill.foreign import Foreign
from edgekit.errors import EngineError, StageError
from edgekit.evaluate import parity
from edgekit.progress import Progress, Silent, track
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact

CHECKED = 64  # texts that parity is measured on; each also at its own length, batch 1

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class ExportReport:
    """What was written and how far it is from torch: fp32 both, in ``engine`` on this machine.

    ``max_abs`` and the cosines are the worst (and mean) over ``rows`` outputs of ``texts`` real texts and of
    ``shapes`` shapes (batch 1 to 3, length 1 to the longest) with padding inside. ``details``: the exporter's own.
    """

    engine: str
    size_bytes: int
    max_abs: float
    cosine_mean: float
    cosine_min: float
    rows: int
    texts: int
    shapes: int
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a stage's record."""
        found = asdict(self)
        return {**found.pop("details"), **found}


def check(
    encoder: Encoder | Foreign,
    folder: Path,
    config: ExportConfig,
    texts: list[str],
    began: float,
    details: dict[str, Any],
    progress: Progress = Silent(),
) -> ExportReport:
    """Run the artifact in ``folder`` beside ``encoder``, which it was made from.

    Raises StageError when it differs by more than ``config`` allows, or fails at some shape.
    """
    try:
        model = artifact.load_text(folder, threads=1)
    except EngineError as error:  # some graphs convert and cannot be run
        raise StageError("the exported file does not run", found=str(error)) from None
    about, spec = artifact.read(folder), model.spec
    preprocessor = model.pipeline.preprocessor
    windows = preprocessor.windows(texts[:CHECKED])
    cases = [(np.array([w.ids], np.int64), np.ones((1, len(w.ids)), np.int64)) for w in windows]
    cases += [(batch.ids, batch.mask) for batch in preprocessor.batches(windows)]
    shapes = probe_shapes(encoder.config.vocab_size, spec)
    expected, found = [], []
    for ids, mask in track(progress, f"parity of {about.engine} with torch", cases + shapes, len(cases) + len(shapes)):
        with torch.inference_mode():
            theirs = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        ours = model.loaded.run(ids, mask)
        if ours.shape != theirs.shape:
            raise StageError(f"{about.files[0]} at input shape {ids.shape}", found=ours.shape, expected=theirs.shape)
        keep = mask.astype(bool) if spec.task == "tag" else slice(None)
        expected.append(theirs[keep])
        found.append(ours[keep])
    measured = parity(np.concatenate(expected), np.concatenate(found))
    report = ExportReport(
        engine=about.engine,
        size_bytes=sum((folder / name).stat().st_size for name in about.files),
        max_abs=measured.max_abs,
        cosine_mean=measured.cosine_mean,
        cosine_min=measured.cosine_min,
        rows=sum(len(x) for x in found),
        texts=len(texts[:CHECKED]),
        shapes=len(shapes),
        seconds=time.perf_counter() - began,
        details=details,
    )
    if measured.max_abs > config.max_abs or measured.cosine_min < config.min_cosine:
        raise StageError(
            f"{about.files[0]} in {about.engine} differs from torch",
            found=f"max-abs {measured.max_abs:.2g}, cosine {measured.cosine_min:.7f}",
            expected=f"at most {config.max_abs:g} and at least {config.min_cosine:g}",
            fix="Loosen stages.export.max_abs or min_cosine only if the task's metric is unharmed.",
        )
    return report


def probe_shapes(vocabulary: int, spec: TaskSpec) -> list[tuple[Ids, Ids]]:
    """Ids and masks of batch 1 to 3 and lengths 1 to ``max_length``, with right padding in all rows but the first."""
    random = np.random.default_rng(0)
    longest = spec.max_length
    cases = []
    for length in sorted({1, 2, 3, 5, 8, 17, longest // 2, longest - 1, longest} & set(range(1, longest + 1))):
        for batch in (1, 2, 3):
            ids = random.integers(0, vocabulary, (batch, length), dtype=np.int64)
            mask = np.ones((batch, length), np.int64)
            for row in range(1, batch):
                mask[row, max(1, length - row * (length // 3)) :] = 0
            cases.append((np.where(mask == 1, ids, spec.pad_id), mask))
    return cases
