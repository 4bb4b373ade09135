"""How far the exported towers are from torch, in their engine, over real and random inputs of every shape."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.distill.clip.config import BertConfig, NoTextConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.errors import EngineError, StageError
from edgekit.evaluate import Parity, parity
from edgekit.export.dual import towers
from edgekit.export.dual.inputs import Example, Inputs
from edgekit.export.dual.towers import IDS, MASK, PIXELS, Feed
from edgekit.export.parity import ExportReport
from edgekit.progress import Progress, Silent, track
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact

CHECKED = 32  # examples; each alone, and then in batches of 2 and 3
BATCHES = (1, 2, 3)


def check_towers(
    model: DualEncoder,
    folder: Path,
    config: ExportConfig,
    examples: Sequence[Example],
    began: float,
    details: dict[str, Any],
    progress: Progress = Silent(),
) -> ExportReport:
    """Run the towers in ``folder`` beside ``model``, which they were made from.

    Raises StageError when one differs by more than ``config`` allows, or fails at some shape.
    """
    about, inputs = artifact.read(folder), Inputs(folder)
    measured: dict[str, Parity] = {}
    shapes, rows = 0, 0
    for name in about.towers:
        feeds = inputs.of(name, examples[:CHECKED])
        cases = [*feeds, *_batches(inputs, feeds)]
        probes = probe_pixels(model) if name == "image" else probe_texts(model, inputs)
        try:
            tower = towers.open_tower(folder, name)
        except EngineError as error:  # some graphs convert and cannot be run
            raise StageError(f"the exported {name} tower does not run", found=str(error)) from None
        pairs = []
        for feed in track(progress, f"parity of {about.engine}, {name} tower", [*cases, *probes], 0):
            theirs = torch_tower(model, name, feed)
            try:
                ours = tower(feed)
            except EngineError as error:
                raise StageError(f"the exported {name} tower fails", found=str(error)) from None
            if ours.shape != theirs.shape:
                raise StageError(f"output of the {name} tower", found=ours.shape, expected=theirs.shape)
            pairs.append((theirs, ours))
        measured[name] = parity(np.concatenate([t for t, _ in pairs]), np.concatenate([o for _, o in pairs]))
        shapes, rows = shapes + len(probes), rows + sum(len(t) for t, _ in pairs)
        _bounds(f"{name} tower", about.engine, measured[name], config)
    return ExportReport(
        engine=about.engine,
        size_bytes=sum(towers.size_bytes(folder, name) for name in about.towers),
        max_abs=max(one.max_abs for one in measured.values()),
        cosine_mean=min(one.cosine_mean for one in measured.values()),
        cosine_min=min(one.cosine_min for one in measured.values()),
        rows=rows,
        texts=len(examples[:CHECKED]),
        shapes=shapes,
        seconds=time.perf_counter() - began,
        details={
            **details,
            "towers": {
                name: {**asdict(one), "size_bytes": towers.size_bytes(folder, name)} for name, one in measured.items()
            },
        },
    )


def _bounds(what: str, engine: str, measured: Parity, config: ExportConfig) -> None:
    if measured.max_abs > config.max_abs or measured.cosine_min < config.min_cosine:
        raise StageError(
            f"the {what} in {engine} differs from torch",
            found=f"max-abs {measured.max_abs:.2g}, cosine {measured.cosine_min:.7f}",
            expected=f"at most {config.max_abs:g} and at least {config.min_cosine:g}",
            fix="Loosen stages.export.max_abs or min_cosine only if the task's metric is unharmed.",
        )


def torch_tower(model: DualEncoder, name: str, feed: Feed) -> NDArray[np.float32]:
    """What the tower in torch gives, float32 (B, D), not normalised."""
    with torch.inference_mode():
        if name == "image":
            found = model.image(torch.from_numpy(feed[PIXELS]))
        else:
            found = model.text(torch.from_numpy(feed[IDS]), torch.from_numpy(feed[MASK]))
    result: NDArray[np.float32] = found.numpy()
    return result


def _batches(inputs: Inputs, feeds: list[Feed]) -> list[Feed]:
    """Neighbours two by two and three by three, so that texts of other lengths pad each other."""
    return [
        inputs.padded(feeds[at : at + size]) for size in BATCHES[1:] for at in range(0, len(feeds) - size + 1, size)
    ]


def probe_pixels(model: DualEncoder) -> list[Feed]:
    """Normal noise, batch 1 to 3."""
    side, random = model.config.image.image_size, np.random.default_rng(0)
    return [{PIXELS: random.standard_normal((batch, 3, side, side), np.float32)} for batch in BATCHES]


def probe_texts(model: DualEncoder, inputs: Inputs) -> list[Feed]:
    """Random ids of batch 1 to 3 at lengths up to the context, each text with its end token and padding behind it.

    A tower of fixed length gets that one alone.
    """
    random, longest = np.random.default_rng(0), inputs.length
    words, end = _vocabulary(model, inputs)
    lengths = {longest} if inputs.fixed else {1, 2, 3, 5, 8, 17, longest // 2, longest - 1, longest}
    cases = []
    for length in sorted(n for n in lengths if 1 <= n <= longest):
        for batch in BATCHES:
            ids = random.integers(0, words, (batch, length), dtype=np.int64)
            mask = np.ones((batch, length), np.int64)
            for row in range(batch):
                count = length if row == 0 else max(1, length - row * (length // 3))
                ids[row, count - 1], ids[row, count:], mask[row, count:] = end, inputs.pad_id, 0
            cases.append({IDS: ids, MASK: mask})
    return cases


def _vocabulary(model: DualEncoder, inputs: Inputs) -> tuple[int, int]:
    """How many ids a word may have, and the end token's."""
    text = model.config.text
    assert not isinstance(text, NoTextConfig), "a tower that is there"
    size = text.encoder["vocab_size"] if isinstance(text, BertConfig) else text.vocab_size
    end = inputs.tokenizer.end_id
    return (min(size, end) if 1 < end < size else size), end
