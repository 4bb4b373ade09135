"""Structured pruning of dual encoders' towers: channels, heads and whole blocks go, and tensors shrink.

What remains answers at once, a little worse; training wins back what it cost. A tower may be pruned before or after
`reparameterize`; before leaves it trainable in all its branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from edgekit.distill.clip.cut import Tower, cut_ffn, cut_heads, cut_vocabulary, drop_block, removable
from edgekit.distill.clip.dual import normalise
from edgekit.distill.clip.importance import Measured, ffn_sites, head_sites, measure
from edgekit.distill.clip.reparam import reparameterize
from edgekit.distill.clip.text import TextTransformer
from edgekit.distill.prune import choose
from edgekit.errors import ModelError, StageError

MULTIPLE = 16  # channels that a block keeps are a multiple of what vector instructions take at once
_BATCH = 16
_PROBE = 64  # inputs that the cost of leaving out a block is measured on


def prune_image(
    tower: Tower,
    images: Tensor,
    share: float,
    *,
    blocks: int = 0,
    heads: float = 0.0,
    method: str = "activation",
    per_work: bool = True,
    multiple: int = MULTIPLE,
    seed: int = 0,
) -> Tower:
    """``tower`` without ``blocks`` whole blocks and ``share`` (0..1) of its hidden channels, on the CPU.

    ``images`` (N, 3, S, S): the calibration batch. ``heads``: share of attention heads, of a ViT alone. ``method``: see
    :func:`importance.measure`. ``per_work``: weigh a unit's importance against its multiply-adds, which takes the
    latency rather than the parameters. Raises ModelError for a share that cannot be, StageError for too many blocks.
    """
    return _prune(tower, images, share, heads, blocks, method, per_work, multiple, seed)


def prune_text(
    tower: TextTransformer,
    input_ids: Tensor,
    *,
    ffn: float = 0.0,
    heads: float = 0.0,
    layers: int = 0,
    method: str = "activation",
    per_work: bool = True,
    multiple: int = MULTIPLE,
    seed: int = 0,
) -> TextTransformer:
    """``tower`` without whole ``layers``, shares (0..1) of its heads and FFN neurons; ``input_ids`` (N, T) calibrate.

    Otherwise as :func:`prune_image`.
    """
    return _prune(tower, input_ids, ffn, heads, layers, method, per_work, multiple, seed)


def prune_vocabulary(tower: TextTransformer, keep: Sequence[int]) -> TextTransformer:
    """``tower`` with the rows ``keep`` of its word table; ids are renumbered by rank. See :func:`cut_vocabulary`."""
    return cut_vocabulary(tower, keep)


def _prune(
    tower: Tower,
    inputs: Tensor,
    ffn: float,
    heads: float,
    blocks: int,
    method: str,
    per_work: bool,
    multiple: int,
    seed: int,
) -> Tower:
    for name, share in (("share", ffn), ("heads", heads)):
        if not 0 <= share < 1:
            raise ModelError(f"{name} to prune", found=share, expected="from 0 to below 1")
    small = deepcopy(tower)
    small.cpu().eval()
    small = drop_blocks(small, inputs, blocks)
    if heads:
        found = measure(small, inputs, head_sites, method, seed)
        small = cut_heads(small, _choose(found, heads, per_work, 1), [m.mean for m in found])
    if ffn:
        found = measure(small, inputs, ffn_sites, method, seed)
        small = cut_ffn(small, _choose(found, ffn, per_work, multiple), [m.mean for m in found])
    small.train(tower.training)
    return small


def _choose(found: list[Measured], share: float, per_work: bool, multiple: int) -> list[list[int]]:
    return choose([m.score / m.work if per_work else m.score for m in found], share, multiple)


def drop_blocks(tower: Tower, inputs: Tensor, count: int) -> Tower:
    """A copy without ``count`` whole blocks, one at a time the one whose absence costs least for its work.

    Cost: one minus the mean cosine with what the whole ``tower`` answers on ``inputs``, measured; work: multiply-adds.
    Raises StageError when fewer blocks can go: the rest of a recipe may still be done.
    """
    small, merged, probe = tower, reparameterize(tower), inputs[:_PROBE]
    reference = answers(merged, probe) if count else probe
    for done in range(count):
        whole, costs = work(merged, inputs[:1]), {}
        for number in removable(merged):
            rest = drop_block(merged, number)
            lost = 1 - float((answers(rest, probe) * reference).sum(-1).mean())
            costs[number] = max(lost, 1e-9) / (whole - work(rest, inputs[:1]))
        if not costs:
            fix = f"Set stages.prune.layers to {done} or less."
            raise StageError("blocks to prune", found=count, expected=f"at most {done}", fix=fix)
        best = min(costs, key=costs.__getitem__)
        small, merged = drop_block(small, best), drop_block(merged, best)
    return small


def answers(tower: nn.Module, inputs: Tensor) -> Tensor:
    """Unit embeddings (N, D) of all ``inputs``, in evaluation mode's mathematics."""
    with torch.inference_mode():
        rows = [normalise(tower(inputs[i : i + _BATCH])) for i in range(0, len(inputs), _BATCH)]
    return torch.cat(rows)


def work(tower: nn.Module, inputs: Tensor) -> float:
    """Multiply-adds of ``tower``'s convolutions and linear layers, merged, for one of ``inputs``; an estimate."""
    total = 0.0

    def count(layer: nn.Conv2d | nn.Linear, args: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        each = layer.weight[0].numel()  # multiply-adds behind one output value
        total += output.numel() * each

    merged = reparameterize(tower)
    for layer in merged.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        merged(inputs)
    return total / len(inputs)
