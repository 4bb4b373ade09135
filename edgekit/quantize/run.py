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
import onnx

from edgekit.errors import EdgekitError, StageError
from edgekit.evaluate import parity
from edgekit.export.graph import save
from edgekit.export.onnx import read_spec, write_records
from edgekit.progress import Progress, Silent
from edgekit.quantize import choose
from edgekit.quantize.candidates import Feed, Quantizer, restore, variants
from edgekit.quantize.embeddings import int8_embeddings
from edgekit.quantize.lower import lower
from edgekit.quantize.report import Candidate, QuantizeReport
from edgekit.quantize.sensitivity import Sensitivity, rank
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes.model import Model
from edgekit.runtimes.preprocess import TextPreprocessor
from edgekit.runtimes.threads import usable_cpus

Judge = Callable[[Model], tuple[float, dict[str, Any]]]
COMPARED = 64  # calibration texts that outputs are compared on


def quantize(
    onnx_folder: Path,
    out: Path,
    config: QuantizeConfig,
    calibration: list[str],
    judge: Judge,
    seed: int = 0,
    threads: int = 1,
    progress: Progress = Silent(),
    bound: float | None = None,
) -> QuantizeReport:
    """Write an INT8 artifact to ``out`` (model.onnx, tokenizer.json, task.json, artifact.json) from ``onnx_folder``.

    ``calibration``: training texts; ``judge``: what a model loses against fp32, in metric units (positive is worse),
    and details for the report; ``threads``: for the timing; the rest uses every processor; ``bound``: the largest drop
    allowed, ``config.gate.max_drop`` unless given. The same inputs and choice give the same bytes.
    Raises StageError, with what was measured, when no candidate keeps within the bound.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        limit = config.gate.max_drop if bound is None else bound
        trial = _Trial(Path(onnx_folder), Path(scratch), config, calibration, judge, limit, seed, threads, progress)
        for name in dict.fromkeys(config.candidates):
            trial.attempt(name)
        return trial.finish(Path(out), began)


class _Trial:
    """State of one run: the graph, float but for its tables, its inputs and fp32 outputs, and what was tried so far."""

    def __init__(
        self,
        source: Path,
        scratch: Path,
        config: QuantizeConfig,
        calibration: list[str],
        judge: Judge,
        bound: float,
        seed: int,
        threads: int,
        progress: Progress,
    ) -> None:
        if not calibration:
            raise StageError("calibration texts", found="none", expected="at least one training text")
        self.source, self.scratch, self.config, self.seed, self.threads = source, scratch, config, seed, threads
        self.judge, self.progress, self.bound = judge, progress, bound
        self.spec = read_spec(source)
        self.base = onnx.load(str(source / "model.onnx"))
        if config.embeddings_int8:
            int8_embeddings(self.base)  # first, since every later copy of the graph is then a fraction of its size
        self.texts = calibration[: config.calibration_examples]
        windows = TextPreprocessor(source / "tokenizer.json", self.spec).windows(self.texts)
        self.feeds: list[Feed] = [
            {"input_ids": np.array([w.ids], np.int64), "attention_mask": np.ones((1, len(w.ids)), np.int64)}
            for w in windows[: config.calibration_examples]
        ]
        self.reference = self._load(source / "model.onnx", "fp32", usable_cpus())
        self.expected = self._answers(self.reference)
        self.candidates: list[Candidate] = []
        self.ranking: dict[str, list[Sensitivity]] = {}
        self.quantized: dict[str, onnx.ModelProto] = {}

    def attempt(self, name: str) -> None:
        """Try the variants of ``name`` until one passes whole; else the best of them with its worst parts in float."""
        tried: list[Candidate] = []
        for label, quantizer in variants(name):
            candidate = self._whole(label, quantizer)
            self.candidates.append(candidate)
            if candidate.drop is None:
                continue
            tried.append(candidate)
            if candidate.drop <= self.bound:
                return
        if tried and self.config.float_layers != 0:
            self._keep_some_float(min(tried, key=lambda c: c.drop or 0.0))

    def _whole(self, label: str, quantizer: Quantizer) -> Candidate:
        began = time.perf_counter()
        self.progress.say(f"quantize: {label}")
        candidate = Candidate(label)
        try:
            self.quantized[label] = quantizer(self.base, self.feeds, self.seed)
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
            candidate = Candidate(f"{whole.name}-float-{count}", float_matrices=order[:count])
            self._judge(candidate, restore(self.quantized[whole.name], self.base, set(order[:count])))
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
            self.ranking[name] = rank(self.quantized[name], self.base, self.feeds, usable_cpus(), self.progress)
        return self.ranking[name]

    def _judge(self, candidate: Candidate, model: onnx.ModelProto) -> None:
        path = self._path(candidate.name)
        candidate.size_bytes = save(lower(onnx.ModelProto.FromString(model.SerializeToString())), path)
        loaded = self._load(path, "w8a8", usable_cpus())
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
                fix="Raise stages.quantize.gate.max_drop, or allow more float_layers.",
            )
        files = {"fp32": self.source / "model.onnx", **{c.name: self._path(c.name) for c in passed}}
        calls: dict[str, Callable[[str], Any]] = {}
        for load in range(1, choose.LOADS + 1):
            calls |= {f"{name}#{load}": self._load(path, name, self.threads).logits for name, path in files.items()}
        fp32_ms = choose.measure(self.candidates, calls, self.texts, self.progress)
        winner = choose.choose(self.candidates, self.bound)
        assert winner is not None
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._path(winner.name), out / "model.onnx")
        shutil.copyfile(self.source / "tokenizer.json", out / "tokenizer.json")
        write_records(out, self.spec, "w8a8")
        whole = winner.name.split("-float-")[0]
        return QuantizeReport(
            candidates=[asdict(c) for c in self.candidates],
            sensitivity=[s.to_dict() for s in self._ranked(whole)],
            chosen=winner.name,
            fp32_p50_ms=fp32_ms,
            seconds=time.perf_counter() - began,
        )

    def _path(self, name: str) -> Path:
        return self.scratch / f"{name}.onnx"

    def _load(self, path: Path, precision: str, threads: int) -> Model:
        return Model.from_files(path, self.source / "tokenizer.json", self.spec, precision=precision, threads=threads)

    def _answers(self, model: Model) -> Any:
        return model.logits(self.texts[:COMPARED])
