"""The teacher's answers to the training set: computed once, kept on disk, read memory-mapped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekit.distill.batches import Batch, Tokens, by_length, collate
from edgekit.distill.encoder import Encoder, States
from edgekit.progress import Progress, Silent, track

_BATCH = 64


@dataclass(frozen=True)
class Wanted:
    """Which of the teacher's states the losses look at. ``hidden`` and ``qkv`` are layer numbers, 0 the embeddings'."""

    hidden: tuple[int, ...] = ()
    qkv: tuple[int, ...] = ()


@dataclass(frozen=True)
class Answers:
    """Memory-mapped answers; arrays a text (N, ...) or a token (tokens, width), float16, and outputs float32."""

    tokens: Tokens
    arrays: dict[str, NDArray[np.generic]]
    heads: int
    per_token_output: bool

    def outputs(self, batch: Batch) -> Tensor:
        """Logits or embeddings (B, C); token logits (B, T, C) for tag."""
        if self.per_token_output:
            return self._padded("output", batch)
        return torch.from_numpy(np.array(self.arrays["output"][batch.index]))

    def hidden(self, layer: int, batch: Batch) -> Tensor:
        """Hidden states of ``layer`` (B, T, H), zero at padding."""
        return self._padded(f"hidden.{layer}", batch)

    def qkv(self, layer: int, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of ``layer``, each (B, A, T, D)."""
        b, t = batch.input_ids.shape
        q, k, v = (self._padded(f"{name}.{layer}", batch).view(b, t, self.heads, -1).transpose(1, 2) for name in "qkv")
        return q, k, v

    def _padded(self, name: str, batch: Batch) -> Tensor:
        source = self.arrays[name]
        out = np.zeros((*batch.input_ids.shape, source.shape[1]), np.float32)
        for row, i in enumerate(batch.index):
            where = self.tokens.rows(int(i))
            out[row, : where.stop - where.start] = source[where]
        return torch.from_numpy(out)


def _layout(teacher: Encoder, tokens: Tokens, wanted: Wanted) -> dict[str, tuple[tuple[int, int], type]]:
    config, total = teacher.config, int(tokens.offsets[-1])
    rows = total if config.task == "tag" else len(tokens)
    shapes: dict[str, tuple[tuple[int, int], type]] = {
        "output": ((rows, len(config.labels) or config.hidden_size), np.float32)
    }
    for layer in wanted.hidden:
        shapes[f"hidden.{layer}"] = ((total, config.hidden_size), np.float16)
    for layer in wanted.qkv:
        for name in "qkv":
            shapes[f"{name}.{layer}"] = ((total, config.heads[layer - 1] * config.head_dim), np.float16)
    return shapes


def answers_key(teacher_sha256: str, tokens: Tokens, wanted: Wanted, bf16: bool) -> str:
    """The name under which these answers are cached: changes with the teacher, the text or what is wanted."""
    digest = hashlib.sha256(json.dumps([1, teacher_sha256, wanted.hidden, wanted.qkv, bf16]).encode())
    digest.update(tokens.ids.tobytes())
    digest.update(tokens.offsets.tobytes())
    return digest.hexdigest()[:24]


def compute(
    teacher: Encoder, tokens: Tokens, wanted: Wanted, folder: Path, bf16: bool, progress: Progress | None = None
) -> None:
    """Fill ``folder`` with the answers, unless it holds them. It appears whole or not at all."""
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    maps = {
        name: np.lib.format.open_memmap(partial / f"{name}.npy", "w+", dtype=dtype, shape=shape)
        for name, (shape, dtype) in _layout(teacher, tokens, wanted).items()
    }
    device = next(teacher.parameters()).device
    teacher.eval()
    batches = list(by_length(tokens, _BATCH))
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for index in track(progress or Silent(), "teacher answers", batches, len(batches)):
            batch = collate(tokens, index).to(device)
            _store(maps, tokens, batch, teacher.states(batch.input_ids, batch.attention_mask), teacher, wanted)
    for array in maps.values():
        array.flush()
    os.replace(partial, folder)


def _store(
    maps: dict[str, np.memmap], tokens: Tokens, batch: Batch, states: States, teacher: Encoder, wanted: Wanted
) -> None:
    flat: dict[str, Tensor] = {f"hidden.{i}": states.hidden[i] for i in wanted.hidden}
    for i in wanted.qkv:
        flat |= {f"{n}.{i}": x.transpose(1, 2).flatten(2) for n, x in zip("qkv", states.qkv[i - 1], strict=True)}
    if teacher.config.task == "tag":
        flat["output"] = states.output
    else:
        maps["output"][batch.index] = states.output.float().cpu().numpy()
    host = {name: value.float().cpu().numpy() for name, value in flat.items()}
    for row, i in enumerate(batch.index):
        where = tokens.rows(int(i))
        for name, value in host.items():
            maps[name][where] = value[row, : where.stop - where.start]


def open_answers(folder: Path, teacher: Encoder, tokens: Tokens) -> Answers:
    """The answers that :func:`compute` left, without reading them into memory."""
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    return Answers(tokens, arrays, teacher.config.heads[-1], teacher.config.task == "tag")
