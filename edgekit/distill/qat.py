"""Quantization-aware training: a student that is trained with INT8 rounding in place, and the ranges that it wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.data import Splits
from edgekit.distill import fake_quant
from edgekit.distill import ranges as ranges_file
from edgekit.distill.batches import Tokens, collate, tokenize
from edgekit.distill.encoder import Encoder
from edgekit.distill.folder import load, save
from edgekit.distill.settings import loop_config
from edgekit.distill.student import follow
from edgekit.progress import Progress
from edgekit.recipe import Recipe


def qat(
    recipe: Recipe, splits: Splits, source: Path, followed: Path, out: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Train the model in ``source`` under INT8 rounding and write it, in float, to ``out`` with its ranges.json.

    It learns from the answers of ``followed``, which must share its tokenizer. The best epoch is that of the rounded
    model. Returns what training did.
    """
    config = recipe.stages.qat
    student, tokenizer = load(source)
    tokens = tokenize(tokenizer, splits.train, student.config.max_tokens, student.config.pad_token_id)
    count = min(config.calibration_examples, len(tokens))
    index = np.random.default_rng(recipe.seed).permutation(len(tokens))[:count]
    torch.set_num_threads(loop_config(recipe, config).threads)  # another number sums in another order
    progress.say(f"qat: ranges of activations on {count} texts")
    fake_quant.insert(student, calibrate(student, tokens, index))
    report = follow(recipe, splits, student, followed, config, work, "qat", progress)
    plain, ranges = fake_quant.remove(student)
    save(plain, tokenizer, out)
    ranges_file.write({name: range_.codes() for name, range_ in ranges.items()}, out)
    return {"products": len(ranges), "calibration_texts": count, **report}


def calibrate(encoder: Encoder, tokens: Tokens, index: NDArray[np.int64]) -> dict[str, fake_quant.Ends]:
    """Of each Linear's input, the mean of the texts' lowest and the mean of their highest values; 0 is always inside.

    On MiniLM these ends lost least of those that need no training, see docs/quantization.md.
    """
    encoder.eval()

    def run() -> None:
        for i in index:  # one by one, so that no padding counts
            batch = collate(tokens, np.array([i]))
            encoder(batch.input_ids, batch.attention_mask)

    return fake_quant.observe(fake_quant.linears(encoder), run)
