"""What a candidate of one stage loses, for stages that choose among several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.compress.gate import Gate
from edgekit.compress.stage import Context
from edgekit.evaluate.judges import judge_of


def judge_for(context: Context, reference: Path) -> Any:
    """What tells how much a model loses on the validation part against the one in ``reference``."""
    gate, data = Gate(context), context.splits.validation
    before = gate.answers(reference).validation
    return judge_of(data, before, lambda after: gate.drop(before, after))
