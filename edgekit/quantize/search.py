"""The search for the fastest good candidate: try each, keep what is too sensitive in float, time those that pass."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import EdgekitError, StageError
from edgekit.evaluate import parity
from edgekit.progress import Progress, Silent
from edgekit.quantize import choose, sensitivity
from edgekit.quantize.backend import Backend
from edgekit.quantize.report import Candidate, QuantizeReport
from edgekit.quantize.sensitivity import Sensitivity
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes.threads import usable_cpus

# Folders by name, inputs, threads -> ms of each input by name: what times candidates elsewhere than here.
Timer = Callable[[dict[str, Path], list[Any], int], dict[str, NDArray[np.float64]]]
COMPARED = 64  # calibration inputs that outputs are compared on


class Subject(Protocol):
    """What is quantized: a model, or a tower of one. A loaded model is whatever the subject makes of a folder."""

    fp32: Path  # the folder with its fp32 files
    inputs: list[Any]  # calibration inputs, one inference each

    def complete(self, folder: Path) -> None:
        """Add to the model's files in ``folder`` what an engine needs beside them."""

    def load(self, folder: Path, threads: int) -> Any:
        """The model in ``folder``, in its engine."""

    def answer(self, loaded: Any, one: Any) -> Any:
        """One inference, as it is timed."""

    def outputs(self, loaded: Any, inputs: list[Any]) -> Any:
        """Outputs of all ``inputs``, as :func:`edgekit.evaluate.parity` takes them."""

    def judge(self, loaded: Any) -> tuple[float, dict[str, Any]]:
        """What the model loses against fp32, and details."""

    def size_bytes(self, folder: Path) -> int:
        """Bytes on disk of the model's files."""


class Search:
    """State of one run: the subject, its backend and fp32 outputs, and what was tried so far."""

    def __init__(
        self,
        subject: Subject,
        backend: Backend,
        scratch: Path,
        config: QuantizeConfig,
        bound: float,
        precision: str,
        trained: bool = False,
        threads: int = 1,
        progress: Progress = Silent(),
        min_speed: float = 0.0,
        timer: Timer | None = None,
    ) -> None:
        self.timer = timer
        self.subject, self.backend, self.scratch, self.config = subject, backend, scratch, config
        self.min_speed = min_speed
        self.bound, self.precision, self.trained = bound, precision, trained
        self.threads, self.progress = threads, progress
        self.expected = subject.outputs(subject.load(subject.fp32, usable_cpus()), subject.inputs[:COMPARED])
        self.candidates: list[Candidate] = []
        self.ranking: dict[str, list[Sensitivity]] = {}
        self.quantized: dict[str, Any] = {}

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
        if tried and not self.trained and self.config.float_layers != 0 and self._has_matrices():
            self._keep_some_float(min(tried, key=lambda c: c.drop or 0.0))

    def _whole(self, label: str, make: Callable[[], Any]) -> Candidate:
        began = time.perf_counter()
        self.progress.say(f"quantize for {self.backend.engine}, {self.precision}: {label}")
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
            subject = self.subject
            inputs = subject.inputs[: sensitivity.TEXTS]
            reference = _flat(subject.outputs(subject.load(subject.fp32, usable_cpus()), inputs))

            def outputs(model: Any) -> sensitivity.Outputs:
                return _flat(subject.outputs(subject.load(self._written("alone", model), usable_cpus()), inputs))

            self.ranking[name] = sensitivity.rank(self.backend, self.quantized[name], reference, outputs, self.progress)
        return self.ranking[name]

    def _judge(self, candidate: Candidate, model: Any) -> None:
        folder = self._written(candidate.name, model)
        candidate.size_bytes = self.subject.size_bytes(folder)
        loaded = self.subject.load(folder, usable_cpus())
        near = parity(self.expected, self.subject.outputs(loaded, self.subject.inputs[:COMPARED]))
        candidate.cosine_mean, candidate.cosine_min = near.cosine_mean, near.cosine_min
        drop, candidate.details = self.subject.judge(loaded)
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
                + ("train longer in stages.qat." if self.trained else "allow more float_layers, or enable stages.qat."),
            )
        fp32_ms = self._timed({"fp32": self.subject.fp32, **{c.name: self.scratch / c.name for c in passed}})
        winner = choose.choose(self.candidates, self.bound, self.min_speed)
        if winner is None:
            raise StageError(
                "INT8 is slower than fp32",
                found="; ".join(f"{c.name}: {c.reason}" for c in passed),
                expected=f"{self.min_speed:.2f} of fp32's speed at least",
                fix="stages.quantize.gate.min_speed: 0 takes it for its size.",
            )
        shutil.copytree(self.scratch / winner.name, out, dirs_exist_ok=True)
        whole = winner.name.split("-float-")[0]
        return QuantizeReport(
            candidates=[asdict(c) for c in self.candidates],
            sensitivity=[s.to_dict() for s in self._ranked(whole)] if self._has_matrices() else [],
            chosen=winner.name,
            fp32_p50_ms=fp32_ms,
            seconds=time.perf_counter() - began,
        )

    def _timed(self, folders: dict[str, Path]) -> float:
        """Time ``folders`` on the board, if there is one, else here; returns fp32's p50, ms."""
        if self.timer is not None:
            return choose.note(self.candidates, self.timer(folders, self.subject.inputs[: choose.TEXTS], self.threads))
        calls: dict[str, Callable[[Any], Any]] = {}
        for load in range(1, choose.LOADS + 1):
            for name, path in folders.items():
                calls[f"{name}#{load}"] = partial(self.subject.answer, self.subject.load(path, self.threads))
        return choose.measure(self.candidates, calls, self.subject.inputs, self.progress)

    def _has_matrices(self) -> bool:
        """fp16 rounds too little for a ranking to say anything."""
        return self.precision != "fp16"

    def _written(self, name: str, model: Any) -> Path:
        folder = self.scratch / name
        folder.mkdir(exist_ok=True)
        self.backend.write(model, folder)
        self.subject.complete(folder)
        return folder


def _flat(outputs: Any) -> sensitivity.Outputs:
    """Outputs of texts as rows; tag gives a list, one matrix a text."""
    return np.concatenate(outputs) if isinstance(outputs, list) else np.asarray(outputs)
