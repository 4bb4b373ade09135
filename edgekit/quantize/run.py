"""The quantize stage: try each candidate against the judge, time those that pass, write the winner."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.distill import ranges
from edgekit.errors import EdgekitError, StageError
from edgekit.evaluate import parity
from edgekit.progress import Progress, Silent
from edgekit.quantize import choose, qat, sensitivity
from edgekit.quantize.backend import Feed, Source, open_backend
from edgekit.quantize.report import Candidate, QuantizeReport
from edgekit.quantize.sensitivity import Sensitivity
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.model import Model
from edgekit.runtimes.preprocess import TextPreprocessor
from edgekit.runtimes.threads import usable_cpus

Judge = Callable[[Model], tuple[float, dict[str, Any]]]
COMPARED = 64  # calibration texts that outputs are compared on


def quantize(
    fp32_folder: Path,
    torch_folder: Path,
    out: Path,
    config: QuantizeConfig,
    calibration: list[str],
    judge: Judge,
    precision: str = "w8a8",
    seed: int = 0,
    threads: int = 1,
    progress: Progress = Silent(),
    bound: float | None = None,
) -> QuantizeReport:
    """Write an artifact of ``precision`` to ``out``, for the engine that the artifact ``fp32_folder`` is for.

    ``torch_folder``: the model that it was exported from; ``calibration``: training texts; ``judge``: what a model
    loses against fp32, in metric units (positive is worse), and details for the report; ``threads``: for the timing;
    the rest uses every processor; ``bound``: the largest drop allowed, ``config.gate.max_drop`` unless given.
    The same inputs and choice give the same bytes.
    Raises StageError, with what was measured, when no candidate keeps within the bound.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        limit = config.gate.max_drop if bound is None else bound
        trial = _Trial(
            Path(fp32_folder), Path(torch_folder), Path(scratch), config, calibration, judge, limit, precision, seed
        )
        trial.threads, trial.progress = threads, progress
        for name in trial.names():
            trial.attempt(name)
        return trial.finish(Path(out), began)


class _Trial:
    """State of one run: the backend, its inputs and fp32 outputs, and what was tried so far."""

    def __init__(
        self,
        fp32: Path,
        torch: Path,
        scratch: Path,
        config: QuantizeConfig,
        calibration: list[str],
        judge: Judge,
        bound: float,
        precision: str,
        seed: int,
    ) -> None:
        if not calibration:
            raise StageError("calibration texts", found="none", expected="at least one training text")
        self.fp32, self.scratch, self.config, self.precision = fp32, scratch, config, precision
        self.judge, self.bound = judge, bound
        self.threads = 1
        self.progress: Progress = Silent()
        self.engine, self.spec = artifact.read(fp32).engine, artifact.read_spec(fp32)
        self.texts = calibration[: config.calibration_examples]
        windows = TextPreprocessor(fp32 / "tokenizer.json", self.spec).windows(self.texts)
        feeds: list[Feed] = [
            {"input_ids": np.array([w.ids], np.int64), "attention_mask": np.ones((1, len(w.ids)), np.int64)}
            for w in windows[: config.calibration_examples]
        ]
        self._trained = precision == "w8a8" and self.engine in qat.ENGINES and ranges.exist(torch)
        self.backend = open_backend(
            self.engine, Source(fp32, torch, feeds, config.embeddings_int8, seed, config.reduce_range)
        )
        self.expected = self._answers(artifact.load_text(fp32, usable_cpus()))
        self.candidates: list[Candidate] = []
        self.ranking: dict[str, list[Sensitivity]] = {}
        self.quantized: dict[str, Any] = {}

    def names(self) -> list[str]:
        """The candidates to try. A model that was trained for INT8 is rounded as it was in training, and that alone."""
        if self._trained:
            return [qat.NAME]
        return list(dict.fromkeys(self.config.candidates_for(self.engine, self.precision)))

    def attempt(self, name: str) -> None:
        """Try the variants of ``name`` until one passes whole; else the best of them with its worst parts in float."""
        tried: list[Candidate] = []
        for label, make in self.backend.variants(name):
            candidate = self._whole(label, make)
            self.candidates.append(candidate)
            if candidate.drop is None:
                continue
            tried.append(candidate)
            if candidate.drop <= self.bound:
                return
        if tried and not self._trained and self.config.float_layers != 0 and self._has_matrices():
            self._keep_some_float(min(tried, key=lambda c: c.drop or 0.0))

    def _whole(self, label: str, make: Callable[[], Any]) -> Candidate:
        began = time.perf_counter()
        self.progress.say(f"quantize for {self.engine}, {self.precision}: {label}")
        candidate = Candidate(label, self.precision)
        try:
            self.quantized[label] = make()
            self._judge(candidate, self.quantized[label])
        except EdgekitError as error:
            candidate.reason = f"failed: {error}"
        except Exception as error:  # third-party quantizers raise anything; the others may still succeed
            candidate.reason = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        candidate.seconds = time.perf_counter() - began
        return candidate

    def _keep_some_float(self, whole: Candidate) -> None:
        """Find, by halving, the fewest of the most sensitive matrices that must stay in float for the bound to hold."""
        began = time.perf_counter()
        order = [s.matrix for s in self._ranked(whole.name)]
        low, high = 1, len(order) - 1
        if self.config.float_layers is not None:
            high = min(high, self.config.float_layers)
        best: Candidate | None = None
        count = high
        while low <= high:
            candidate = Candidate(f"{whole.name}-float-{count}", self.precision, float_matrices=order[:count])
            self._judge(candidate, self.backend.keep_float(self.quantized[whole.name], set(order[:count])))
            if candidate.drop is not None and candidate.drop <= self.bound:
                best, high = candidate, count - 1
            elif best is None:  # not even with all that may stay in float
                best = candidate
                break
            else:
                low = count + 1
            count = (low + high) // 2
        if best is not None:
            best.seconds = time.perf_counter() - began
            self.candidates.append(best)

    def _ranked(self, name: str) -> list[Sensitivity]:
        if name not in self.ranking:
            texts = self.texts[: sensitivity.TEXTS]
            reference = _flat(artifact.load_text(self.fp32, usable_cpus()).logits(texts))

            def outputs(model: Any) -> sensitivity.Outputs:
                return _flat(self._loaded(self._written("alone", model)).logits(texts))

            self.ranking[name] = sensitivity.rank(self.backend, self.quantized[name], reference, outputs, self.progress)
        return self.ranking[name]

    def _judge(self, candidate: Candidate, model: Any) -> None:
        folder = self._written(candidate.name, model)
        candidate.size_bytes = sum((folder / name).stat().st_size for name in artifact.read(folder).files)
        loaded = self._loaded(folder)
        near = parity(self.expected, self._answers(loaded))
        candidate.cosine_mean, candidate.cosine_min = near.cosine_mean, near.cosine_min
        drop, candidate.details = self.judge(loaded)
        candidate.drop = float(drop)
        if candidate.drop > self.bound:
            candidate.reason = f"drop {candidate.drop:.4f} is beyond the bound {self.bound:g}"

    def finish(self, out: Path, began: float) -> QuantizeReport:
        """Time what passed, choose, write, report."""
        passed = [c for c in self.candidates if c.drop is not None and c.drop <= self.bound]
        if not passed:
            measured = "; ".join(
                c.reason if c.drop is None else f"{c.name} drop {c.drop:.4f}, cosine {c.cosine_mean:.4f}"
                for c in self.candidates
            )
            raise StageError(
                "no INT8 candidate is within the bound",
                found=measured,
                expected=f"a drop of at most {self.bound:g}",
                fix="Raise stages.quantize.gate.max_drop, or "
                + (
                    "train longer in stages.qat." if self._trained else "allow more float_layers, or enable stages.qat."
                ),
            )
        folders = {"fp32": self.fp32, **{c.name: self.scratch / c.name for c in passed}}
        calls: dict[str, Callable[[str], Any]] = {}
        for load in range(1, choose.LOADS + 1):
            calls |= {f"{name}#{load}": artifact.load_text(path, self.threads).logits for name, path in folders.items()}
        fp32_ms = choose.measure(self.candidates, calls, self.texts, self.progress)
        winner = choose.choose(self.candidates, self.bound)
        assert winner is not None
        shutil.copytree(self.scratch / winner.name, out, dirs_exist_ok=True)
        whole = winner.name.split("-float-")[0]
        return QuantizeReport(
            candidates=[asdict(c) for c in self.candidates],
            sensitivity=[s.to_dict() for s in self._ranked(whole)] if self._has_matrices() else [],
            chosen=winner.name,
            fp32_p50_ms=fp32_ms,
            seconds=time.perf_counter() - began,
        )

    def _has_matrices(self) -> bool:
        """fp16 rounds too little for a ranking to say anything."""
        return self.precision != "fp16"

    def _written(self, name: str, model: Any) -> Path:
        folder = self.scratch / name
        folder.mkdir(exist_ok=True)
        self.backend.write(model, folder)
        shutil.copyfile(self.fp32 / "tokenizer.json", folder / "tokenizer.json")
        artifact.write(folder, self.spec, self.engine, self.precision)
        return folder

    def _loaded(self, folder: Path) -> Model:
        return artifact.load_text(folder, usable_cpus())

    def _answers(self, model: Model) -> Any:
        return model.logits(self.texts[:COMPARED])


def _flat(outputs: Any) -> sensitivity.Outputs:
    """Outputs of texts as rows; tag gives a list, one matrix a text."""
    return np.concatenate(outputs) if isinstance(outputs, list) else np.asarray(outputs)
