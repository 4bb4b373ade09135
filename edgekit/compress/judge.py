"""What a candidate of one stage loses, for stages that choose among several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgekit.compress.gate import Gate
from edgekit.compress.stage import Context
from edgekit.evaluate import predict
from edgekit.evaluate.open import predictor_of
from edgekit.progress import Silent
from edgekit.runtimes.model import Model


def judge_for(context: Context, reference: Path) -> Callable[[Model], tuple[float, dict[str, Any]]]:
    """A function that tells what a model loses on the validation part against the one in ``reference``."""
    gate = Gate(context)

    def judge(model: Model) -> tuple[float, dict[str, Any]]:
        found = predict(predictor_of(model, 0), context.splits.validation, Silent())
        drop = gate.drop(gate.answers(reference).validation, found)
        return drop.value, {"drop_low": drop.low, "drop_high": drop.high}

    return judge
