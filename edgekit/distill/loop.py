"""The training loop, on accelerate: one process or many, bf16 or fp32, resumable after every epoch."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.distill.batches import steps
from edgekit.errors import StageError
from edgekit.progress import Progress, Silent

_MOST_EPOCHS = 50  # min_steps on a tiny set must not run for ever
_CLIP = 1.0


@dataclass(frozen=True)
class LoopConfig:
    """How to train. Rates are peak AdamW rates; ``warmup`` is the share of all steps; patience counts epochs."""

    epochs: int
    min_steps: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    warmup: float
    weight_decay: float
    patience: int
    accumulate: int
    seed: int
    bf16: bool
    threads: int


class Data(Protocol):
    """What is trained on: numbered examples, put together into batches that can be moved ``to`` a device."""

    def __len__(self) -> int: ...

    def epoch(self, size: int, seed: int, number: int, rank: int, ranks: int) -> list[NDArray[np.int64]]:
        """The examples of this process's part of every batch of one epoch, in order."""

    def collate(self, index: NDArray[np.int64]) -> Any:
        """The batch of the examples at ``index``."""


class Objective(nn.Module):
    """A student and what it is trained on; ``forward(batch)`` gives the loss, a scalar."""

    student: nn.Module

    def forward(self, batch: Any) -> Tensor:
        raise NotImplementedError  # every subclass defines its loss


@dataclass
class Best:
    """The best epoch so far; saved in every checkpoint (accelerate asks for these two methods)."""

    value: float = -math.inf
    epoch: int = -1
    weights: dict[str, Tensor] = field(default_factory=dict)
    done: int = 0  # epochs finished
    history: list[dict[str, float]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def epochs_for(examples: int, config: LoopConfig) -> int:
    """Epochs to run: at least ``epochs``, and enough for ``min_steps`` updates, at most 50."""
    per_epoch = max(1, math.ceil(examples / (config.batch_size * config.accumulate)))
    return max(config.epochs, min(_MOST_EPOCHS, math.ceil(config.min_steps / per_epoch)))


def train(
    objective: Objective,
    data: Data,
    config: LoopConfig,
    validate: Callable[[Any], float],
    checkpoints: Path,
    label: str,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train ``objective.student`` in place and leave it at its best epoch by ``validate`` (higher is better).

    ``checkpoints`` holds the last finished epoch, so that a killed run goes on from there with the same result.
    Returns what was done: epochs, steps, best epoch, validation history. Raises StageError when the loss diverges.
    """
    progress = progress or Silent()
    accelerator = _accelerator(config)
    torch.manual_seed(config.seed + accelerator.process_index)
    epochs = epochs_for(len(data), config)
    updates = epochs * math.ceil(steps(len(data), config.batch_size) / config.accumulate)
    optimizer = _optimizer(objective.student, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, updates, config.warmup))
    best = Best()
    model, optimizer = accelerator.prepare(objective, optimizer)
    accelerator.register_for_checkpointing(best, schedule)
    _resume(accelerator, checkpoints)
    bar = progress.start(label, epochs * steps(len(data), config.batch_size))
    progress.advance(bar, best.done * steps(len(data), config.batch_size))
    while best.done < epochs and best.done - 1 - best.epoch < config.patience:
        loss = _one_epoch(accelerator, model, optimizer, schedule, data, config, best.done, progress, bar)
        student = accelerator.unwrap_model(model).student
        value = _agreed(accelerator, validate, student)
        best.history.append({"epoch": best.done + 1, "loss": round(loss, 6), "validation": round(value, 6)})
        if value > best.value:
            best.value, best.epoch = value, best.done
            best.weights = {k: v.detach().cpu().clone() for k, v in student.state_dict().items()}
        best.done += 1
        if accelerator.is_main_process:
            progress.say(f"{label}: epoch {best.done}/{epochs}, loss {loss:.4f}, validation {value:.4f}")
        _save(accelerator, checkpoints, best.done)
    progress.finish(bar)
    student = accelerator.unwrap_model(model).student
    student.load_state_dict(best.weights)
    student.eval()
    accelerator.wait_for_everyone()
    return {
        "epochs": best.done,
        "planned_epochs": epochs,
        "steps": best.done * steps(len(data), config.batch_size),
        "batch_size": config.batch_size * config.accumulate,
        "examples": len(data),
        "best_epoch": best.epoch + 1,
        "history": copy.deepcopy(best.history),
        "bf16": config.bf16,
        "processes": accelerator.num_processes,
    }


def _accelerator(config: LoopConfig) -> Accelerator:
    torch.set_num_threads(config.threads)
    AcceleratorState._reset_state()  # a second stage may ask for another precision than the first
    GradientState._reset_state()
    return Accelerator(
        mixed_precision="bf16" if config.bf16 else "no",
        gradient_accumulation_steps=config.accumulate,
        cpu=not torch.cuda.is_available(),
    )


def _optimizer(student: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in student.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if parameter.ndim < 2 else config.weight_decay
        rate = config.head_learning_rate if name.startswith(("classifier", "head")) else config.learning_rate
        groups.setdefault((decay, rate), []).append(parameter)
    listed = [{"params": p, "weight_decay": decay, "lr": rate} for (decay, rate), p in groups.items()]
    return torch.optim.AdamW(listed, fused=True)


def _rate(step: int, total: int, warmup: float) -> float:
    """Linear up over the warm-up share, linear down to zero at the end."""
    rise = max(1, int(total * warmup))
    if step < rise:
        return (step + 1) / rise
    return max(0.0, (total - step) / max(1, total - rise))


def _one_epoch(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Any,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    data: Data,
    config: LoopConfig,
    number: int,
    progress: Progress,
    bar: int,
) -> float:
    model.train()
    total = torch.zeros((), device=accelerator.device)
    count = 0
    batches = data.epoch(config.batch_size, config.seed, number, accelerator.process_index, accelerator.num_processes)
    for at, index in enumerate(batches, start=1):
        accelerator.gradient_state._set_sync_gradients(at % config.accumulate == 0 or at == len(batches))
        batch = data.collate(index).to(accelerator.device)
        loss = model(batch)
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            accelerator.clip_grad_norm_(model.parameters(), _CLIP)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        total += loss.detach()
        count += 1
        if at % 20 == 0:
            progress.advance(bar, 20, f"loss {float(total) / count:.3f}")
    progress.advance(bar, count % 20)
    mean = float(accelerator.reduce(total, "mean")) / max(1, count)
    if not math.isfinite(mean):
        raise StageError("training", found=f"loss {mean}", expected="a finite loss", fix="Lower the learning rate.")
    return mean


def _agreed(accelerator: Accelerator, validate: Callable[[Any], float], student: nn.Module) -> float:
    """Validation by the main process; the others take its word, so that all stop at the same epoch."""
    value = [validate(student.eval())] if accelerator.is_main_process else [0.0]
    if accelerator.num_processes > 1:
        broadcast_object_list(value)
    return float(value[0])


def _save(accelerator: Accelerator, checkpoints: Path, done: int) -> None:
    partial = checkpoints / "partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial), safe_serialization=False)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(partial, checkpoints / f"epoch-{done:03d}")
        for old in sorted(checkpoints.glob("epoch-*"))[:-1]:
            shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def _resume(accelerator: Accelerator, checkpoints: Path) -> None:
    found = sorted(checkpoints.glob("epoch-*"))
    if found:
        accelerator.load_state(str(found[-1]), load_kwargs={"weights_only": True})
