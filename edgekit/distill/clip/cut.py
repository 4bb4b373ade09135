"""Towers with parts really gone: smaller tensors, a config that says so, and means kept in biases."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from edgekit.distill.clip.efficientnet import Bottleneck, EfficientNet, NormedConv
from edgekit.distill.clip.importance import Prunable, ffn_sites, layers_of
from edgekit.distill.clip.mci import AttentionBlock, Mci, Stage
from edgekit.distill.clip.reparam import RepMixerBlock
from edgekit.distill.clip.text import TextTransformer
from edgekit.distill.clip.transformer import Layer
from edgekit.distill.clip.vit import Vit
from edgekit.errors import ModelError

Tower = TypeVar("Tower", bound=Prunable)
Item = TypeVar("Item")
Linear = nn.Conv2d | nn.Linear


def cut_ffn(tower: Tower, keep: Sequence[Sequence[int]], means: Sequence[Tensor]) -> Tower:
    """A copy whose blocks keep only the hidden channels named, one list a block of :func:`ffn_sites`.

    ``means`` (channels,) of each block: what a removed channel gave on average goes on in the next bias.
    """
    small = deepcopy(tower)
    for site, rows, mean in zip(ffn_sites(small), keep, means, strict=True):
        index = torch.tensor(list(rows))
        block = site.block
        if isinstance(block, Layer):
            _outputs(block.up, index)
            _inputs(block.down, index, mean)
        elif isinstance(block, AttentionBlock | RepMixerBlock):
            _outputs(block.mlp.up, index)
            _inputs(block.mlp.down, index, mean)
        elif isinstance(block, Bottleneck) and block.expand is not None:
            for part in (block.expand, block.depthwise):
                _normed_outputs(part, index)
            _inputs(block.project.conv, index, mean, block.project.norm)
    sizes = [len(rows) for rows in keep]
    if isinstance(small, Mci):
        rest = iter(sizes)
        hidden = tuple(tuple(next(rest) for _ in stage) for stage in small.config.hidden)
        small.config = replace(small.config, hidden=hidden)
    elif isinstance(small, EfficientNet):
        first, *others = small.config.blocks  # the first has no expansion of its own
        shapes = [(size, *shape[1:]) for size, shape in zip(sizes, others, strict=True)]
        small.config = replace(small.config, blocks=(first, *shapes))
    elif isinstance(small, TextTransformer) and small.first is not None:
        small.config = replace(small.config, mixer_hidden=(sizes[0], sizes[-1]), ffn=tuple(sizes[1:-1]))
    elif isinstance(small, Vit | TextTransformer):
        small.config = replace(small.config, ffn=tuple(sizes))
    return small


def cut_heads(tower: Tower, keep: Sequence[Sequence[int]], means: Sequence[Tensor]) -> Tower:
    """A copy whose transformer layers keep only the attention heads named; ``means`` as in :func:`cut_ffn`."""
    small = deepcopy(tower)
    assert isinstance(small, Vit | TextTransformer)
    for layer, heads, mean in zip(layers_of(small), keep, means, strict=True):
        attention = layer.attention
        old, dim = attention.heads, attention.dim
        inside = torch.cat([torch.arange(h * dim, (h + 1) * dim) for h in heads])
        _outputs(attention.qkv, torch.cat([inside + part * old * dim for part in range(3)]))
        _inputs(attention.out, inside, mean)
        attention.heads = len(heads)
    small.config = replace(small.config, heads=tuple(len(heads) for heads in keep))
    return small


def removable(tower: Prunable) -> list[int]:
    """Blocks that can go, by number from the first: those beside a skip, while their stage keeps another."""
    if isinstance(tower, Mci):
        numbered = iter(range(sum(map(len, tower.config.hidden))))
        stages = [[next(numbered) for _ in hidden] for hidden in tower.config.hidden]
        return [i for stage in stages if len(stage) > 1 for i in stage]
    if isinstance(tower, EfficientNet):
        return [i for i, block in enumerate(tower.blocks) if i and isinstance(block, Bottleneck) and block.skip]
    return list(range(len(tower.layers))) if len(tower.layers) > 1 else []


def drop_block(tower: Tower, number: int) -> Tower:
    """A copy without block ``number``, which must be one of :func:`removable`; ModelError for another."""
    if number not in removable(tower):
        raise ModelError("block", found=number, expected=f"one of {removable(tower)}")
    small = deepcopy(tower)
    if isinstance(small, Mci):
        place, left = 0, number
        while left >= len(small.config.hidden[place]):
            left -= len(small.config.hidden[place])
            place += 1
        stage = small.stages[place]
        assert isinstance(stage, Stage)
        del stage.blocks[left]
        hidden = list(small.config.hidden)
        hidden[place] = _without(hidden[place], left)
        small.config = replace(small.config, hidden=tuple(hidden))
    elif isinstance(small, EfficientNet):
        del small.blocks[number]
        small.config = replace(small.config, blocks=_without(small.config.blocks, number))
    elif isinstance(small, Vit | TextTransformer):
        del small.layers[number]
        config = small.config
        small.config = replace(config, heads=_without(config.heads, number), ffn=_without(config.ffn, number))
    return small


def cut_vocabulary(tower: TextTransformer, keep: Sequence[int]) -> TextTransformer:
    """A copy with the rows ``keep`` of the word table, in ascending order: an id becomes its rank among them.

    The end of text must be among them, which without ``eos_id`` is the table's last id, and the ``pad_id`` that rows
    are filled with. Raises ModelError otherwise.
    """
    rows, size = sorted(set(keep)), tower.config.vocab_size
    eos = size - 1 if tower.config.eos_id is None else tower.config.eos_id
    pad = eos if tower.config.pad_id is None else tower.config.pad_id
    if not rows or rows[0] < 0 or rows[-1] >= size or not {eos, pad} <= set(rows):
        raise ModelError(
            "vocabulary",
            found=f"{len(rows)} ids from {min(rows, default=None)} to {max(rows, default=None)}",
            expected=f"ids below {size}, the end of text {eos} and the padding {pad} among them",
        )
    small = deepcopy(tower)
    small.word.weight = nn.Parameter(tower.word.weight.detach()[torch.tensor(rows)].clone())
    small.word.num_embeddings = len(rows)
    eos_id = None if tower.config.eos_id is None else rows.index(eos)
    pad_id = None if tower.config.pad_id is None else rows.index(pad)
    small.config = replace(small.config, vocab_size=len(rows), eos_id=eos_id, pad_id=pad_id)
    return small


def _without(items: tuple[Item, ...], number: int) -> tuple[Item, ...]:
    return (*items[:number], *items[number + 1 :])


def _set(layer: nn.Module, name: str, value: Tensor) -> None:
    setattr(layer, name, nn.Parameter(value.detach().clone()))


def _outputs(layer: Linear, index: Tensor) -> None:
    """Keep these outputs of a layer; a depthwise convolution loses the inputs with them."""
    _set(layer, "weight", layer.weight[index])
    if layer.bias is not None:
        _set(layer, "bias", layer.bias[index])
    if isinstance(layer, nn.Linear):
        layer.out_features = len(index)
        return
    layer.out_channels = len(index)
    if layer.groups > 1:
        layer.groups = layer.in_channels = len(index)


def _inputs(layer: Linear, index: Tensor, mean: Tensor, norm: nn.BatchNorm2d | None = None) -> None:
    """Keep these inputs; what the others gave on average goes to the bias, or to the BatchNorm that follows."""
    gone = torch.ones(layer.weight.shape[1], dtype=torch.bool)
    gone[index] = False
    lost = layer.weight.detach().flatten(1)[:, gone] @ mean[gone]
    if norm is not None:
        assert norm.running_mean is not None
        norm.running_mean -= lost
    else:
        assert layer.bias is not None
        _set(layer, "bias", layer.bias + lost)
    _set(layer, "weight", layer.weight[:, index])
    if isinstance(layer, nn.Linear):
        layer.in_features = len(index)
    else:
        layer.in_channels = len(index)


def _normed_outputs(part: NormedConv, index: Tensor) -> None:
    _outputs(part.conv, index)
    if part.norm is None:
        return
    for name in ("weight", "bias"):
        _set(part.norm, name, getattr(part.norm, name)[index])
    assert part.norm.running_mean is not None and part.norm.running_var is not None
    part.norm.running_mean, part.norm.running_var = part.norm.running_mean[index], part.norm.running_var[index]
    part.norm.num_features = len(index)
