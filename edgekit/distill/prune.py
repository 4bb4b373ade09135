"""Structured pruning: whole layers, heads and neurons go, shapes shrink, distillation wins back what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgekit.data import Splits
from edgekit.distill.batches import Tokens, collate, tokenize
from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.distill.folder import load, save
from edgekit.distill.importance import measure
from edgekit.distill.student import cut_layers, follow
from edgekit.progress import Progress
from edgekit.recipe import Recipe

_MULTIPLE = 32  # neurons a layer keeps are a multiple of what INT8 kernels take at once
_PROBE = 256  # texts that the cost of leaving out a layer is measured on


def prune(
    recipe: Recipe, splits: Splits, source: Path, teacher: Path, out: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Write the model in ``source`` to ``out`` with fewer layers, heads and neurons, recovered by distillation.

    It follows ``teacher``, which must share the source's tokenizer. Returns the shapes and what recovery did.
    """
    config = recipe.stages.prune
    encoder, tokenizer = load(source)
    tokens = tokenize(tokenizer, splits.train, encoder.config.max_tokens, encoder.config.pad_token_id)
    before = {"layers": encoder.config.layers, "heads": encoder.config.heads, "ffn": encoder.config.ffn}
    dropped: list[int] = []
    if config.layers:
        keep = choose_layers(encoder, tokens, config.layers, recipe.seed)
        dropped = [i for i in range(encoder.config.layers) if i not in keep]
        encoder = cut_layers(encoder, keep).eval()
    progress.say(f"prune: importance by {config.importance} on {config.importance_examples} texts")
    importance = measure(encoder, tokens, config.importance, config.importance_examples, recipe.seed)
    heads = choose(importance.heads, config.heads, 1)
    ffn = choose(importance.ffn, config.ffn, _MULTIPLE)
    small = cut(encoder, heads, ffn)
    report: dict[str, Any] = {"epochs": 0}
    if config.recovery.epochs or config.recovery.min_steps:
        report = follow(recipe, splits, small, teacher, config.recovery, work, "recover", progress)
    save(small, tokenizer, out)
    return {
        "before": before,
        "after": {"layers": small.config.layers, "heads": small.config.heads, "ffn": small.config.ffn},
        "layers_dropped": dropped,
        "importance": config.importance,
        **report,
    }


def choose(scores: list[NDArray[np.float64]], share: float, multiple: int) -> list[list[int]]:
    """Units to keep in each layer when ``share`` of all go, the least important of all layers first.

    What a layer keeps is rounded to ``multiple`` and is never nothing.
    """
    everything = np.sort(np.concatenate(scores))
    cut_off = round(len(everything) * share)
    threshold = everything[cut_off - 1] if cut_off else -np.inf
    kept = []
    for layer in scores:
        wanted = round(int((layer > threshold).sum()) / multiple) * multiple
        count = min(len(layer), max(multiple, wanted))
        kept.append(sorted(int(i) for i in np.argsort(-layer, kind="stable")[:count]))
    return kept


def choose_layers(encoder: Encoder, tokens: Tokens, drop: int, seed: int) -> list[int]:
    """Layers to keep when ``drop`` go: each time the one whose absence changes the answers least."""
    index = np.sort(np.random.default_rng(seed).permutation(len(tokens))[:_PROBE])
    reference = _answers(encoder, tokens, index)
    keep = list(range(encoder.config.layers))
    for _ in range(min(drop, len(keep) - 1)):
        costs = []
        for layer in keep:
            rest = [i for i in keep if i != layer]
            costs.append(float((_answers(cut_layers(encoder, rest), tokens, index) - reference).square().mean()))
        keep.pop(int(np.argmin(costs)))
    return keep


def _answers(encoder: Encoder, tokens: Tokens, index: NDArray[np.int64]) -> Tensor:
    encoder.eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(index), 32):
            batch = collate(tokens, index[start : start + 32])
            answer = encoder(batch.input_ids, batch.attention_mask)
            if answer.ndim == 3:  # token logits: only those of real tokens count
                answer = answer[batch.attention_mask.bool()]
            rows.append(answer)
    return torch.cat(rows)


def cut(encoder: Encoder, heads: list[list[int]], ffn: list[list[int]]) -> Encoder:
    """A copy of ``encoder`` that has only the named heads and neurons of each layer."""
    config = EncoderConfig.from_dict(encoder.config.to_dict())
    config.heads, config.ffn = [len(h) for h in heads], [len(f) for f in ffn]
    small = Encoder(config)
    state = dict(encoder.state_dict())
    dim = config.head_dim
    for i, (keep_heads, keep_ffn) in enumerate(zip(heads, ffn, strict=True)):
        name, old = f"layers.{i}.", encoder.config.heads[i]
        inside = torch.cat([torch.arange(h * dim, (h + 1) * dim) for h in keep_heads])
        qkv = torch.cat([inside + part * old * dim for part in range(3)])
        neurons = torch.tensor(keep_ffn)
        for part in ("weight", "bias"):
            state[f"{name}attention.qkv.{part}"] = state[f"{name}attention.qkv.{part}"][qkv]
            state[f"{name}up.{part}"] = state[f"{name}up.{part}"][neurons]
        state[f"{name}attention.out.weight"] = state[f"{name}attention.out.weight"][:, inside]
        state[f"{name}down.weight"] = state[f"{name}down.weight"][:, neurons]
    small.load_state_dict(state)
    return small
