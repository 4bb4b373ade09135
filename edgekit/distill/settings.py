"""From a recipe to the training loop's settings, on this machine."""

from __future__ import annotations

from pathlib import Path

from edgekit.distill.loop import LoopConfig
from edgekit.recipe import Recipe
from edgekit.recipe.training import Training
from edgekit.runtimes.threads import usable_cpus

_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}


def bf16_pays(recipe: Recipe) -> bool:
    """Whether to train in bfloat16: as the recipe says, or where the CPU or GPU multiplies it natively."""
    if isinstance(recipe.bf16, bool):
        return recipe.bf16
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    try:
        words = Path("/proc/cpuinfo").read_text("utf-8").split()
    except OSError:
        return False
    return not _BF16_FLAGS.isdisjoint(words)


def loop_config(recipe: Recipe, training: Training, head_learning_rate: float | None = None) -> LoopConfig:
    """The loop's settings for one stage's ``training`` part."""
    return LoopConfig(
        epochs=training.epochs,
        min_steps=training.min_steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        head_learning_rate=head_learning_rate or training.learning_rate,
        warmup=training.warmup,
        weight_decay=training.weight_decay,
        patience=training.patience,
        accumulate=training.accumulate,
        seed=recipe.seed,
        bf16=bf16_pays(recipe),
        threads=recipe.threads or usable_cpus(),
    )
