"""Train a small model for a few steps and save it: run alone or under a launcher of several processes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from edgekit.data import TextSet
from edgekit.distill import folder as folders
from edgekit.distill.batches import tokenize
from edgekit.distill.loop import LoopConfig, train
from edgekit.distill.teach import TeachObjective

TEXTS = [f"{word} {noun} number {i}" for i in range(4) for word in ("good", "bad") for noun in ("film", "plot", "cast")]


def main(source: Path, out: Path) -> None:
    encoder, tokenizer = folders.load(source)
    encoder.config.dropout = 0.0  # each process draws its own dropout, so there must be none to compare
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in encoder.layers:
        layer.attention.dropout = 0.0
    data = TextSet(texts=TEXTS, labels=np.array([int(t.startswith("good")) for t in TEXTS]))
    config = LoopConfig(
        epochs=2, min_steps=1, batch_size=8, learning_rate=1e-4, head_learning_rate=1e-3, warmup=0.1, weight_decay=0.01,
        patience=9, accumulate=1, seed=0, bf16=False, threads=1,
    )  # fmt: skip
    steps: list[float] = []

    def validate(_: object) -> float:
        steps.append(0.0)
        return float(len(steps))  # the last epoch is the best one

    report = train(TeachObjective(encoder, 0.0), tokenize(tokenizer, data, 64, 0), config, validate, out / "work", "t")
    if torch.distributed.is_initialized() and torch.distributed.get_rank():
        return
    folders.save(encoder, tokenizer, out)
    print(f"processes {report['processes']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
