"""The gate: after each stage, on held-out data, is it still right, and did it pay?

The validation part decides; the test part is reported and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.records import StageRecord
from edgekit.compress.stage import Context
from edgekit.data import HeldOut
from edgekit.evaluate import Drop, Score, agreement, interleaved, paired_drop, parity, predict, score
from edgekit.evaluate.open import open_predictor
from edgekit.evaluate.outputs import Outputs
from edgekit.recipe.stages import GateConfig
from edgekit.runtimes.artifact import is_artifact

TIMED = 60  # examples of the test part, spread over what it has
TIMED_ROUNDS = 4
WARMUP = 10


@dataclass(frozen=True)
class Answers:
    """What one model says to the held-out parts."""

    validation: Outputs
    test: Outputs


class Gate:
    """Measures models of one run. Answers of a folder are computed once and held by the context while the run lasts."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.recipe, self.splits, self.progress = context.recipe, context.splits, context.progress
        self._answers: dict[Path, Answers] = context.answers

    @property
    def teacher(self) -> Path | None:
        """The folder of the teacher, once its stage has ended."""
        return self.context.teacher

    def answers(self, folder: Path) -> Answers:
        """The answers of the model in ``folder`` to both held-out parts."""
        if folder not in self._answers:
            predictor = open_predictor(folder, self.recipe.latency_threads)
            self._answers[folder] = Answers(
                predict(predictor, self.splits.validation, self.progress),
                predict(predictor, self.splits.test, self.progress),
            )
        return self._answers[folder]

    def scored(self, answers: Outputs, data: HeldOut, *, test: bool) -> Score:
        """The task's metric of ``answers`` on one held-out part."""
        return score(self.recipe.task, answers, data, teacher=self._teachers(test), names=self.splits.names)

    def drop(self, before: Outputs, after: Outputs) -> Drop:
        """What ``after`` lost against ``before`` on the validation part."""
        return paired_drop(self.recipe.task, before, after, self.splits.validation, teacher=self._teachers(test=False))

    def _teachers(self, test: bool) -> Outputs | None:
        if self.teacher is None:
            return None
        answers = self.answers(self.teacher)
        return answers.test if test else answers.validation

    def latency(self, folders: dict[str, Path]) -> dict[str, NDArray[np.float64]]:
        """Milliseconds from input to answer at batch 1, all models in turns, on examples of the test part."""
        predictors = {name: open_predictor(folder, self.recipe.latency_threads) for name, folder in folders.items()}
        examples = timed_examples(self.splits.test)
        return interleaved({n: p.answer for n, p in predictors.items()}, examples, TIMED_ROUNDS, WARMUP, self.progress)

    def on_device(self, folders: dict[str, Path]) -> dict[str, float]:
        """p50 in ms of engines' files on the device of the run; {} without one."""
        device = self.context.device
        if device is None or "after" not in folders:
            return {}
        found = device.time(folders, timed_examples(self.splits.test), self.recipe.latency_threads)
        return {name: float(np.median(one.samples_ms)) for name, one in found.items()}

    def judge(
        self,
        stage: str,
        after: Path,
        before: Path | None,
        bounds: GateConfig,
        details: dict[str, Any],
        seconds: float,
        required: bool,
    ) -> StageRecord:
        """Measure the model in ``after`` beside the one in ``before`` and decide whether ``stage`` stays."""
        self.progress.say(f"{stage}: measuring accuracy, parity, size and latency")
        teacher = self.context.teacher = self.context.teacher or after
        mine = self.answers(after)
        on_test = self.scored(mine.test, self.splits.test, test=True)
        on_validation = self.scored(mine.validation, self.splits.validation, test=False)
        names = {"after": after, **({"before": before} if before else {}), "teacher": teacher}
        times = {name: float(np.median(t)) for name, t in self.latency(names).items()}
        there = self.on_device({name: folder for name, folder in names.items() if is_artifact(folder)})
        size = open_predictor(after).size_bytes
        facts: dict[str, Any] = {
            **details,
            "teacher_p50_ms": times["teacher"],
            "latency_threads": self.recipe.latency_threads,
            "latency_texts": min(TIMED, len(self.splits.test)),
            "gate_n": on_validation.n,
            **{k: v for k, v in on_test.details.items() if isinstance(v, float)},
        }
        if there and self.context.device is not None:
            facts["device"] = {
                "name": self.context.device.name,
                "basis": self.context.device.basis,
                "p50_ms": there["after"],
                "before_p50_ms": there.get("before"),
            }
        common: dict[str, Any] = {
            "stage": stage,
            "metric": on_test.metric,
            "value": on_test.value,
            "low": on_test.low,
            "high": on_test.high,
            "n": on_test.n,
            "gate_value": on_validation.value,
            "agreement": agreement(self.recipe.task, self.answers(teacher).test, mine.test),
            "size_bytes": size,
            "p50_ms": times["after"],
            "seconds": seconds,
            "candidates": facts.pop("candidates", []),
        }
        if before is None:
            return StageRecord(kept=True, reason="the model that the others are held against", details=facts, **common)
        theirs = self.answers(before)
        drop = self.drop(theirs.validation, mine.validation)
        near = parity(theirs.validation, mine.validation)
        smaller = open_predictor(before).size_bytes / size
        faster = times["before"] / times["after"]
        if "before" in there:
            faster = there["before"] / there["after"]
        facts |= {"times_smaller": smaller, "times_faster": faster, "parity_cosine_min": near.cosine_min}
        kept, reason = decide(on_validation.metric, drop, faster, smaller, bounds, required)
        if "before" in there and self.context.device is not None:
            reason += f" ({self.context.device.basis} on {self.context.device.name})"
        return StageRecord(
            kept=kept,
            reason=reason,
            gate_drop=drop.value,
            gate_drop_low=drop.low,
            gate_drop_high=drop.high,
            parity_cosine=near.cosine_mean,
            parity_max_abs=near.max_abs,
            before_p50_ms=times["before"],
            details=facts,
            **common,
        )


def decide(
    metric: str, drop: Drop, faster: float, smaller: float, bounds: GateConfig, required: bool
) -> tuple[bool, str]:
    """Whether a stage stays, and why, in words with the figures that decided."""
    limit = bounds.max_cosine_drop if metric == "cosine_to_teacher" else bounds.max_drop
    lost = f"{metric} {-100 * drop.value:+.2f} pp on validation [{-100 * drop.high:+.2f}, {-100 * drop.low:+.2f}]"
    gains = f"{faster:.2f}x faster, {smaller:.2f}x smaller"
    if drop.value > limit:
        return required, f"{lost}: beyond the bound of -{100 * limit:.2f} pp" + (
            "; kept because no bundle is possible without it" if required else ""
        )
    if not required and faster < (bounds.min_speed or 0.0):
        return False, f"slower: {gains}, asked for {bounds.min_speed:.2f}x the speed at least; {lost}"
    if not required and max(faster, smaller) < bounds.min_gain:
        return False, f"does not pay: {gains}, asked for {bounds.min_gain:.2f}x; {lost}"
    return True, f"{lost}; {gains}"


def timed_examples(data: HeldOut) -> list[Any]:
    """Examples to time answers on: spread over what the test part has, in an order that mixes them."""
    examples = data.spread(TIMED)
    return [examples[i] for i in np.random.default_rng(0).permutation(len(examples))]
