"""One row of a dual encoder's profile: one tower, part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.runtimes.index import Index
from edgekit.runtimes.vectors import Floats, unit

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel

IMAGE_PARTS = ["decode", "preprocess", "model", "postprocess"]
TEXT_PARTS = ["preprocess", "model", "postprocess"]
SEARCH = "search"
HITS = 10
_QUALITY = 95  # of the JPEGs that golden pictures become


def image_row(model: DualModel, batch: int, sources: Sequence[str | bytes], index: str) -> tuple[list[str], Any]:
    """(names of the parts, what runs variant number n and gives each part's ns) of ``batch`` pictures at once.

    ``sources``: picture files, or the bytes of such; taken in turn.
    """
    pre, search = model.images.preprocessor, _search(index)

    def run(number: int) -> list[int]:
        times = [time.perf_counter_ns()]
        pictures = [pre.decode(sources[(number * batch + place) % len(sources)]) for place in range(batch)]
        times.append(time.perf_counter_ns())
        values = np.empty((batch, 3, pre.spec.size, pre.spec.size), np.float32)
        for picture, row in zip(pictures, values, strict=True):
            pre.transform(picture, row)
        times.append(time.perf_counter_ns())
        raw = np.concatenate([model.images.forward(part) for part in _chunks(values, model.images.rows)])
        times.append(time.perf_counter_ns())
        return _finished(times, raw, search)

    return [*IMAGE_PARTS, *([SEARCH] if search else [])], run


def text_row(model: DualModel, sets: Sequence[list[str]], index: str) -> tuple[list[str], Any]:
    """The same of the texts in ``sets[n]``."""
    text, search = model.text, _search(index)
    assert text is not None, "asked for rows of towers that there are"

    def run(number: int) -> list[int]:
        times = [time.perf_counter_ns()]
        ids, mask = text.prepare(sets[number % len(sets)], quiet=True)
        times.append(time.perf_counter_ns())
        starts = range(0, len(ids), text.rows)
        raw = np.concatenate([text.forward(ids[i : i + text.rows], mask[i : i + text.rows]) for i in starts])
        times.append(time.perf_counter_ns())
        return _finished(times, raw, search)

    return [*TEXT_PARTS, *([SEARCH] if search else [])], run


def jpegs(pictures: Sequence[Any]) -> list[bytes]:
    """uint8 (H, W, 3) each as the bytes of a JPEG, so that decoding has something to do."""
    from PIL import Image

    found = []
    for picture in pictures:
        held = BytesIO()
        Image.fromarray(picture).save(held, "JPEG", quality=_QUALITY)
        found.append(held.getvalue())
    return found


def _search(index: str) -> Callable[[Floats], object] | None:
    if not index:
        return None
    loaded = Index.load(Path(index))
    return lambda rows: loaded.search(rows, HITS)


def _finished(times: list[int], raw: Floats, search: Callable[[Floats], object] | None) -> list[int]:
    """ns of each part, with those that follow the towers."""
    rows = unit(raw)
    times.append(time.perf_counter_ns())
    if search is not None:
        search(rows)
        times.append(time.perf_counter_ns())
    return [after - before for before, after in pairwise(times)]


def _chunks(values: Floats, rows: int) -> list[Floats]:
    return [values[start : start + rows] for start in range(0, len(values), rows)]
