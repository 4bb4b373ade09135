"""Which channels, neurons and heads of a tower matter, measured on a calibration batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.distill.clip.dual import normalise
from edgekit.distill.clip.efficientnet import Bottleneck, EfficientNet
from edgekit.distill.clip.mci import AttentionBlock, Mci, Stage
from edgekit.distill.clip.reparam import RepMixerBlock, reparameterize
from edgekit.distill.clip.text import TextTransformer
from edgekit.distill.clip.transformer import Layer
from edgekit.distill.clip.vit import Vit
from edgekit.errors import ModelError

Prunable = Mci | EfficientNet | Vit | TextTransformer
Consumer = nn.Conv2d | nn.Linear
_BATCH = 16
METHODS = ("activation", "taylor")


@dataclass(frozen=True)
class Site:
    """Units in a row: ``consumer`` reads them, ``size`` neighbouring input channels each; ``block`` holds both."""

    block: nn.Module
    consumer: Consumer
    size: int = 1


@dataclass(frozen=True)
class Measured:
    """A site's units: score (U,) float64, higher matters more; mean (U * size,) of each channel; work of one unit.

    ``work`` is in multiply-adds an input, of the weights into and out of the unit.
    """

    score: NDArray[np.float64]
    mean: Tensor
    work: float


def ffn_sites(tower: Prunable) -> list[Site]:
    """Hidden channels of every ConvMLP, bottleneck or FFN, first block to last."""
    if isinstance(tower, EfficientNet):
        return [Site(b, b.project.conv) for b in tower.blocks if isinstance(b, Bottleneck) and b.expand is not None]
    if isinstance(tower, Mci):
        stages = [stage for stage in tower.stages if isinstance(stage, Stage)]
        blocks = [b for stage in stages for b in stage.blocks if isinstance(b, AttentionBlock | RepMixerBlock)]
        return [Site(block, block.mlp.down) for block in blocks]
    layers = [Site(layer, layer.down) for layer in layers_of(tower)]
    if isinstance(tower, TextTransformer) and tower.first is not None and tower.last is not None:
        return [Site(tower.first, tower.first.mlp.down), *layers, Site(tower.last, tower.last.mlp.down)]
    return layers


def head_sites(tower: Prunable) -> list[Site]:
    """Attention heads of every layer. Raises ModelError for a tower without transformer layers."""
    if not isinstance(tower, Vit | TextTransformer):
        raise ModelError("heads", found=f"a tower of kind {tower.config.kind}", expected="a transformer")
    return [Site(layer, layer.attention.out, layer.attention.dim) for layer in layers_of(tower)]


def layers_of(tower: Vit | TextTransformer) -> list[Layer]:
    """The transformer layers, first to last."""
    return [layer for layer in tower.layers if isinstance(layer, Layer)]


def measure(
    tower: Prunable, inputs: Tensor, sites: Callable[[Any], list[Site]], method: str, seed: int = 0
) -> list[Measured]:
    """Importance of the units at ``sites`` on ``inputs``: pictures (N, 3, S, S) or token ids (N, T).

    activation: energy that a unit adds to its block's output about its own mean, over the energy of that output; what
    weights and activations say together (Sun et al. 2024, Wanda, section 2, for one weight). The mean itself is no
    loss: whoever removes the unit puts it into a bias.
    taylor: mean squared gradient, on a mask of ones, of the unit embedding's projection on random signs (Molchanov et
    al. 2019, section 3.1; Kwon et al. 2022, section 3.2).
    """
    if method not in METHODS:
        raise ModelError("importance", found=method, expected=" or ".join(METHODS))
    merged = reparameterize(tower)
    places = sites(merged)
    found = [_Moments(site) for site in places]
    gradients = [np.zeros(m.units) for m in found]
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(inputs), _BATCH):
        part = inputs[start : start + _BATCH]
        with torch.no_grad(), _watched(found, _read_tokens(merged, part)):
            merged(part)
        if method == "taylor":
            for total, gradient in zip(gradients, _gradients(merged, places, part, generator), strict=True):
                total += gradient
    scores = gradients if method == "taylor" else [m.energy() for m in found]
    return [Measured(s / len(inputs), m.mean(), m.work()) for s, m in zip(scores, found, strict=True)]


class _Moments:
    """First and second moments of a site's input channels, and the energy of its block's output."""

    def __init__(self, site: Site) -> None:
        self.site, self.size = site, site.size
        channels = site.consumer.weight.shape[1]
        self.units = channels // site.size
        self.total = torch.zeros(self.units, site.size, dtype=torch.float64)
        self.square = torch.zeros(self.units, site.size, site.size, dtype=torch.float64)
        self.count, self.output, self.rows, self.inputs = 0.0, 0.0, 0, 0

    def add(self, x: Tensor, weights: Tensor | None) -> None:
        rows = (x.flatten(2).transpose(1, 2) if x.ndim == 4 else x).double()  # (B, positions, channels)
        self.inputs, self.rows = self.inputs + rows.shape[0], self.rows + rows.shape[0] * rows.shape[1]
        flat = rows.flatten(0, 1).unflatten(-1, (self.units, self.size))
        weight = torch.ones(len(flat), dtype=torch.float64) if weights is None else weights.flatten().double()
        self.total += torch.einsum("n,nus->us", weight, flat)
        self.square += torch.einsum("n,nus,nut->ust", weight, flat, flat)
        self.count += float(weight.sum())

    def add_output(self, x: Tensor, weights: Tensor | None) -> None:
        rows = (x.flatten(2).transpose(1, 2) if x.ndim == 4 else x).double().square().sum(-1)
        self.output += float((rows if weights is None else rows * weights).sum())

    def mean(self) -> Tensor:
        return (self.total / self.count).flatten().float()

    def energy(self) -> NDArray[np.float64]:
        """For each unit, the trace of W C W^T, C the covariance of its channels, as a share of the block's output."""
        mean = self.total / self.count
        covariance = self.square / self.count - torch.einsum("us,ut->ust", mean, mean)
        weight = self.site.consumer.weight.detach().double().flatten(1)
        unit = weight.unflatten(1, (self.units, self.size))  # (outputs, units, size)
        energy = torch.einsum("ous,ust,out->u", unit, covariance, unit).clamp(min=0.0)
        share: NDArray[np.float64] = (energy / max(self.output / self.count, 1e-30)).numpy() * self.inputs
        return share

    def work(self) -> float:
        outputs = self.site.consumer.weight.shape[0]
        into = 4 if self.size > 1 else 2  # a head: query, key, value and output; a neuron: in and out
        return into * outputs * self.size * self.rows / self.inputs


def _read_tokens(tower: Prunable, inputs: Tensor) -> Tensor | None:
    """Weights (N, T): 1 where a text is read, so that padding after its end does not count. None: everywhere."""
    if not isinstance(tower, TextTransformer) or tower.config.fixed_length:
        return None
    return (torch.arange(inputs.shape[1]) <= tower.end(inputs)[:, None]).double()


@contextmanager
def _watched(found: list[_Moments], weights: Tensor | None) -> Iterator[None]:
    handles = []
    for moments in found:

        def see(module: nn.Module, args: Any, moments: _Moments = moments) -> None:
            moments.add(args[0], weights)

        def see_output(module: nn.Module, args: Any, output: Tensor, moments: _Moments = moments) -> None:
            moments.add_output(output, weights)

        handles.append(moments.site.consumer.register_forward_pre_hook(see))
        handles.append(moments.site.block.register_forward_hook(see_output))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gradients(tower: Prunable, sites: list[Site], inputs: Tensor, generator: torch.Generator) -> list[Any]:
    """Sum over inputs of squared gradients, one array a site; each input has masks, so a gradient, of its own."""
    masks, handles = [], []
    for site in sites:
        units = site.consumer.weight.shape[1] // site.size
        mask = torch.ones(len(inputs), units, requires_grad=True)

        def apply(module: nn.Module, args: Any, mask: Tensor = mask, size: int = site.size) -> tuple[Tensor]:
            wide = mask.repeat_interleave(size, dim=1)
            return (args[0] * (wide[:, :, None, None] if args[0].ndim == 4 else wide[:, None, :]),)

        masks.append(mask)
        handles.append(site.consumer.register_forward_pre_hook(apply))
    try:
        with torch.enable_grad():
            output = normalise(tower(inputs))
            signs = torch.randint(0, 2, output.shape, generator=generator).to(output.dtype) * 2 - 1
            gradients = torch.autograd.grad((output * signs).sum(), masks)
    finally:
        for handle in handles:
            handle.remove()
    return [g.double().square().sum(0).numpy() for g in gradients]
