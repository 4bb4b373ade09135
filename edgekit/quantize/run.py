"""The quantize stage: try each candidate against the judge, time those that pass, write the winner."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import StageError
from edgekit.progress import Progress, Silent
from edgekit.quantize import qat
from edgekit.quantize.backend import Feed, Source, open_backend
from edgekit.quantize.report import QuantizeReport
from edgekit.quantize.search import Search, Timer
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.model import Model
from edgekit.runtimes.preprocess import TextPreprocessor

Judge = Callable[[Model], tuple[float, dict[str, Any]]]


def quantize(
    fp32_folder: Path,
    torch_folder: Path,
    out: Path,
    config: QuantizeConfig,
    calibration: list[Any],
    judge: Any,
    precision: str = "w8a8",
    seed: int = 0,
    threads: int = 1,
    progress: Progress = Silent(),
    bound: float | None = None,
    min_speed: float = 0.0,
    timer: Timer | None = None,
    first: Path | None = None,
) -> QuantizeReport:
    """Write an artifact of ``precision`` to ``out``, for the engine that the artifact ``fp32_folder`` is for.

    ``torch_folder``: the model that it was exported from; ``calibration``: training texts; ``judge``: what a model
    loses against fp32, in metric units (positive is worse), and details for the report (a dual encoder has a judge of
    its own, :class:`edgekit.quantize.dual.run.DualJudge`, and pictures with captions); ``threads``: for the timing;
    the rest uses every processor; ``bound``: the largest drop allowed, ``config.gate.max_drop`` unless given;
    ``min_speed``: the least speed against fp32, timed in turns, 0 for any; ``timer``: times candidates of texts on a
    board instead of here; ``first``: what a ladder's first rung became, whose text tower a dual encoder takes over. The
    same inputs and choice give the same bytes. Raises StageError, with what was measured, when no candidate keeps
    within the bounds.
    """
    if artifact.is_dual(Path(fp32_folder)):
        from edgekit.quantize.dual.run import quantize_dual

        return quantize_dual(
            fp32_folder,
            torch_folder,
            out,
            config,
            calibration,
            judge,
            precision,
            seed,
            threads,
            progress,
            bound,
            min_speed,
            first,
        )
    began = time.perf_counter()
    limit = config.gate.max_drop if bound is None else bound
    texts = calibration[: config.calibration_examples]
    if not texts:
        raise StageError("calibration texts", found="none", expected="at least one training text")
    subject = _Texts(Path(fp32_folder), precision, texts, judge)
    windows = TextPreprocessor(subject.fp32 / "tokenizer.json", subject.spec).windows(texts)
    feeds: list[Feed] = [
        {"input_ids": np.array([w.ids], np.int64), "attention_mask": np.ones((1, len(w.ids)), np.int64)}
        for w in windows[: config.calibration_examples]
    ]
    trained = qat.trained(Path(torch_folder), subject.engine, precision)
    source = Source(
        subject.fp32,
        Path(torch_folder),
        feeds,
        config.embeddings_int8,
        seed,
        config.reduce_range,
        trained=trained,
    )
    names = [qat.NAME] if trained else config.candidates_for(subject.engine, precision)
    with tempfile.TemporaryDirectory() as scratch:
        backend = open_backend(subject.engine, source)
        search = Search(
            subject,
            backend,
            Path(scratch),
            config,
            limit,
            precision,
            bool(trained),
            threads,
            progress,
            min_speed,
            timer,
        )
        for name in dict.fromkeys(names):
            search.attempt(name)
        return search.finish(Path(out), began)


class _Texts:
    """A text model as what is quantized; see :class:`edgekit.quantize.search.Subject`."""

    def __init__(self, fp32: Path, precision: str, texts: list[str], judge: Judge) -> None:
        self.fp32, self.precision, self.inputs, self.judge = fp32, precision, texts, judge
        self.engine, self.spec = artifact.read(fp32).engine, artifact.read_spec(fp32)

    def complete(self, folder: Path) -> None:
        shutil.copyfile(self.fp32 / "tokenizer.json", folder / "tokenizer.json")
        artifact.write(folder, self.spec, self.engine, self.precision)

    def load(self, folder: Path, threads: int) -> Model:
        return artifact.load_text(folder, threads)

    def answer(self, loaded: Model, one: str) -> Any:
        return loaded.logits(one)

    def outputs(self, loaded: Model, inputs: list[str]) -> Any:
        return loaded.logits(inputs)

    def size_bytes(self, folder: Path) -> int:
        return sum((folder / name).stat().st_size for name in artifact.read(folder).files)
