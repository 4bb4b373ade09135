"""The fastest candidate within the bound wins; near ties go to the more accurate, so that noise cannot decide.

Nor may the noise of few examples: of drops that cannot be told apart, the outputs nearest to fp32's win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluate import interleaved
from edgekit.progress import Progress, Silent
from edgekit.quantize.report import Candidate

TIE = 1.05
TEXTS, ROUNDS, WARMUP, LOADS = 48, 4, 10, 2


def measure(
    candidates: list[Candidate],
    calls: dict[str, Callable[[Any], Any]],
    texts: list[Any],
    progress: Progress = Silent(),
) -> float:
    """Time ``calls`` in turns here and :func:`note` the result; returns fp32's p50, ms.

    ``calls``: "fp32" and each candidate by name, more loads of the same file as "name#2": where a session's memory
    happens to lie was seen to cost up to 30 %, so the luckiest load of each is compared.
    """
    return note(candidates, interleaved(calls, texts[:TEXTS], ROUNDS, WARMUP, progress))


def note(candidates: list[Candidate], samples: Mapping[str, NDArray[np.float64]]) -> float:
    """Write into ``candidates`` what they took: ms by name, of the same inputs for all; returns fp32's p50, ms."""
    best: dict[str, NDArray[np.float64]] = {}
    for label, taken in samples.items():
        name = label.split("#")[0]
        if name not in best or np.median(taken) < np.median(best[name]):
            best[name] = taken
    fp32 = best["fp32"]
    for candidate in candidates:
        if candidate.name in best:
            candidate.p50_ms = float(np.median(best[candidate.name]))
            # text by text: both saw the same machine
            candidate.p50_ratio_to_fp32 = float(np.median(best[candidate.name] / fp32))
    return float(np.median(fp32))


def choose(candidates: list[Candidate], bound: float, min_speed: float = 0.0) -> Candidate | None:
    """Mark and return the winner among those with a latency and ``drop`` within ``bound``; None when there is none.

    ``min_speed``: the least speed against fp32, 1 as fast; slower ones cannot win, and their ``reason`` says so.
    """
    fit = []
    for one in candidates:
        if one.p50_ratio_to_fp32 is None or one.drop is None or one.drop > bound:
            continue
        if one.p50_ratio_to_fp32 * min_speed > 1:
            one.reason = f"{1 / one.p50_ratio_to_fp32:.2f} of fp32's speed, asked for {min_speed:.2f}"
            continue
        fit.append(one)
    if not fit:
        return None
    fastest = min(c.p50_ratio_to_fp32 or 0.0 for c in fit)
    level = [c for c in fit if (c.p50_ratio_to_fp32 or 0.0) <= fastest * TIE]
    equal = _most_accurate(level)
    winner = max(equal, key=lambda c: c.cosine_mean or 0.0)  # max keeps the first of equals
    winner.chosen = True
    if winner is not equal[0]:
        winner.reason = f"nearest to fp32's outputs of {len(equal)} that cannot be told apart by speed or accuracy"
    elif len(level) > 1:
        winner.reason = f"most accurate of {len(level)} that are equally fast within {TIE - 1:.0%}"
    else:
        winner.reason = "fastest within the bound"
    for other in fit:
        if other is not winner:
            ratio = (other.p50_ratio_to_fp32 or 0.0) / (winner.p50_ratio_to_fp32 or 1.0)
            other.reason = f"within the bound; {ratio:.2f} times the winner's time"
    return winner


def _most_accurate(level: list[Candidate]) -> list[Candidate]:
    """The one with the least drop, then, by their drop, those whose drop lies within its interval."""
    ranked = sorted(level, key=lambda c: c.drop or 0.0)
    least = ranked[0].drop or 0.0
    return [c for c in ranked if (c.drop or 0.0) <= max(least, ranked[0].details.get("drop_high", least))]
