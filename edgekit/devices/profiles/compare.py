"""Two profiles side by side: what differs around them, and which rows differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgekit.devices.stats import Floats, block_length, median_draws

KEY = ("engine", "file", "threads", "batch", "tower", "length")
LEAST_BLOCKS = 8
ALPHA = 0.05
BUSY = 0.25  # load over processors
# What changes from run to run says nothing below these steps.
_STEPS = {"load_average": 0.5, "temperature_c": 5.0, "memory_mb": 1.0}
_NONE = "no difference shown"


def compare(a: dict[str, Any], b: dict[str, Any], margin: float = 0.05) -> dict[str, Any]:
    """``differences``: what was not the same around them; ``rows``: both medians and the ratio b / a of each row.

    ``a`` and ``b`` as :func:`edgekit.devices.profiles.read` gives them. ``busy``: those of the two that began under a
    load above a quarter of the processors; what is different may be that. A row's 95 % interval of the ratio is a
    bootstrap of blocks of both series; ``p`` is Mann and Whitney's, of medians of such blocks, which hardly resemble
    their neighbours, and corrected for the number of rows (Holm, Scandinavian Journal of Statistics 6(2), 1979).
    ``verdict`` is "slower" or "faster" where ``p`` is below 0.05 and the whole interval lies more than ``margin``
    away from 1: so much may two processes of the same program differ by where their memory lies (Mytkowicz et al.,
    "Producing wrong data without doing anything obviously wrong!", ASPLOS 2009).
    """
    first, second = ({tuple(row[key] for key in KEY): row for row in one["rows"]} for one in (a, b))
    rows = [_row(first[key], second[key]) for key in first if key in second]
    _correct(rows)
    for row in rows:
        row["verdict"] = row["verdict"] or _verdict(row, margin)
    return {
        "margin": margin,
        "busy": [name for name, one in (("a", a), ("b", b)) if _busy(one["environment"])],
        "differences": list(_differences(a, b)),
        "rows": rows,
        "only_a": [_named(row) for key, row in first.items() if key not in second],
        "only_b": [_named(row) for key, row in second.items() if key not in first],
    }


def mann_whitney(a: Floats, b: Floats) -> float:
    """Two-sided p that neither tends to be larger: normal approximation, corrected for ties and continuity.

    Mann and Whitney, Annals of Mathematical Statistics 18(1), 1947. Good from some 8 values each.
    """
    both = np.concatenate([a, b])
    ordered = np.sort(both)
    ranks = (np.searchsorted(ordered, both, "left") + np.searchsorted(ordered, both, "right") + 1) / 2
    n, m, total = len(a), len(b), len(both)
    u = float(ranks[:n].sum()) - n * (n + 1) / 2
    _, ties = np.unique(both, return_counts=True)
    tied = float((ties.astype(float) ** 3 - ties).sum()) / (total * (total - 1))
    spread = math.sqrt(n * m / 12 * (total + 1 - tied))
    if spread == 0:
        return 1.0
    z = max(0.0, abs(u - n * m / 2) - 0.5) / spread
    return min(1.0, math.erfc(z / math.sqrt(2)))


def _row(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    found = {**_named(a), "a_p50_ms": a["p50_ms"], "b_p50_ms": b["p50_ms"]}
    left, right = (np.array(one["samples_ms"], float) for one in (a, b))
    if a["p50_ms"] is None or b["p50_ms"] is None:
        return {**found, "ratio": None, "low": None, "high": None, "p": None, "verdict": "not timed"}
    few = min(len(left), len(right)) < 2 or not left.min() > 0 or not right.min() > 0
    if few or min(len(_blocks(one)) for one in (left, right)) < LEAST_BLOCKS:
        ratio = b["p50_ms"] / a["p50_ms"] if a["p50_ms"] else None
        return {**found, "ratio": ratio, "low": None, "high": None, "p": None, "verdict": "too few samples"}
    draws = median_draws(right, seed=1) / median_draws(left, seed=0)
    low, high = (round(float(value), 4) for value in np.percentile(draws, [2.5, 97.5]))
    ratio = round(float(np.median(right) / np.median(left)), 4)
    return {
        **found,
        "ratio": ratio,
        "low": low,
        "high": high,
        "p": mann_whitney(_blocks(left), _blocks(right)),
        "verdict": "",
    }


def _blocks(samples: Floats) -> Floats:
    """Medians of the blocks that ``samples`` fall into."""
    size = block_length(samples)
    count = len(samples) // size
    return np.asarray(np.median(samples[: count * size].reshape(count, size), axis=1), float)


def _correct(rows: Sequence[dict[str, Any]]) -> None:
    """Holm's step-down correction of every ``p``, in place."""
    tested = sorted((row for row in rows if row["p"] is not None), key=lambda row: row["p"])
    worst = 0.0
    for place, row in enumerate(tested):
        worst = max(worst, min(1.0, row["p"] * (len(tested) - place)))
        row["p"] = float(f"{worst:.3g}")


def _verdict(row: dict[str, Any], margin: float) -> str:
    if row["p"] >= ALPHA:
        return _NONE
    if row["low"] > 1 + margin:
        return "slower"
    return "faster" if row["high"] < 1 / (1 + margin) else _NONE


def _busy(environment: dict[str, Any]) -> bool:
    load, cpus = environment["load_average"], environment["cpus"]
    return bool(load and cpus and load[0] > BUSY * cpus)


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in (*KEY, "precision")}


def _differences(a: dict[str, Any], b: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in ("bundle_sha256", "basis", "target", "board", "interleaved"):
        yield from _difference(key, a[key], b[key])
    for group in ("files", "environment"):
        left, right = a[group], b[group]
        for key in dict.fromkeys([*left, *right]):
            if key != "versions":
                yield from _difference(f"{group}.{key}", left.get(key), right.get(key))
    left, right = a["environment"]["versions"], b["environment"]["versions"]
    for key in dict.fromkeys([*left, *right]):
        yield from _difference(f"versions.{key}", left.get(key), right.get(key))


def _difference(what: str, a: Any, b: Any) -> Iterator[dict[str, Any]]:
    step = _STEPS.get(what.rpartition(".")[2])
    if a == b or (step is not None and _near(a, b, step)):
        return
    yield {"what": what, "a": a, "b": b}


def _near(a: Any, b: Any, step: float) -> bool:
    if isinstance(a, list) and isinstance(b, list) and a and b:
        return _near(a[0], b[0], step)
    return isinstance(a, int | float) and isinstance(b, int | float) and abs(a - b) < step
