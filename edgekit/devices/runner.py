"""What one run of a profile's row is: inputs of a stated length, and the time of each part."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model

PARTS = ["preprocess", "model", "postprocess"]
VARIANTS = 4  # texts that the runs go through, so that no cache learns one by heart
Run = Callable[[int], Sequence[int]]


def runner(model: Model | DualModel, job: dict[str, Any]) -> tuple[list[str], Run, int | None]:
    """Names of the parts; what runs variant number n and gives each part's ns; tokens of the first text, if any.

    ``job`` as in :func:`edgekit.devices.worker.serve`.
    """
    if job.get("tower") == "image":
        from edgekit.devices import dual_worker

        sources = job.get("pictures") or dual_worker.jpegs(_golden_pictures(job["bundle"]))
        return (*dual_worker.image_row(cast("DualModel", model), job["batch"], sources, job.get("index", "")), None)
    sets = make_texts(model.token_ids, job["words"], job["length"], job["batch"])
    tokens = max(len(model.token_ids(text)[0]) for text in sets[0])
    if job.get("tower") == "text":
        from edgekit.devices import dual_worker

        return (*dual_worker.text_row(cast("DualModel", model), sets, job.get("index", "")), tokens)
    text_model = cast("Model", model)
    return PARTS, lambda number: _parts(text_model, sets[number % len(sets)]), tokens


def _golden_pictures(bundle: str) -> list[Any]:
    """Pictures that the bundle has golden vectors of, or one of no colour."""
    import numpy as np

    from edgekit.bundle import open_bundle
    from edgekit.runtimes.check import golden_of

    golden = golden_of(open_bundle(bundle, check_hashes=False))
    return golden.pictures if golden is not None else [np.full((480, 640, 3), 127, np.uint8)]


def _parts(model: Model, texts: list[str]) -> tuple[int, int, int]:
    clock = time.perf_counter_ns
    a = clock()
    prepared = model.prepare(texts)
    b = clock()
    raw = model.forward(prepared)
    c = clock()
    model.finish(prepared, raw)
    return b - a, c - b, clock() - c


def make_texts(
    token_ids: Callable[[str], list[list[int]]], words: list[str], length: int, batch: int
) -> list[list[str]]:
    """``VARIANTS`` batches of ``batch`` texts of ``length`` tokens (special ones included), made of ``words``.

    ``token_ids``: a text's windows. Words are taken in turn; where no word fits the last gap, the text stays a token or
    so short.
    """
    special = len(token_ids("")[0])
    cost = {word: len(token_ids(word)[0]) - special for word in words}
    cost = {word: tokens for word, tokens in cost.items() if tokens} or {"a": 1}
    order = list(cost)

    def text(start: int) -> str:
        chosen: list[str] = []
        left, misses, at = length - special, 0, start
        while left > 0 and misses < len(order):
            word = order[at % len(order)]
            at += 1
            if cost[word] <= left:
                chosen.append(word)
                left -= cost[word]
                misses = 0
            else:
                misses += 1
        return " ".join(chosen)

    return [[text(7 * (variant * batch + place)) for place in range(batch)] for variant in range(VARIANTS)]
