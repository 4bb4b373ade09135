"""FastViT image towers: convolutional stages, attention in the last, all mergeable into plain convolutions.

Vasu et al. 2023 (FastViT), section 3, and Vasu et al. 2024 (MobileCLIP), section 4.1. Widths and depths of mci0 are
those of MobileCLIP-S0; the two smaller sizes are our own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.distill.clip.config import MciConfig
from edgekit.distill.clip.reparam import (
    Conv2d,
    ConvMLP,
    Mergeable,
    RepConv,
    RepMixerBlock,
    filled,
    identity_kernel,
    scale_and_shift,
)
from edgekit.errors import ModelError

_SIZES: dict[str, dict[str, Any]] = {
    "mci0": {"widths": (64, 128, 256, 512), "depths": (2, 6, 10, 2), "image_size": 256},
    "mci-small": {"widths": (48, 96, 192, 384), "depths": (2, 5, 7, 2), "image_size": 224},
    "mci-tiny": {"widths": (32, 64, 128, 256), "depths": (2, 4, 5, 2), "image_size": 192},
}


def mci_config(size: str, **changes: Any) -> MciConfig:
    """The config of mci0, mci-small or mci-tiny with fields of :class:`MciConfig` changed. ModelError for another."""
    if size not in _SIZES:
        raise ModelError("image tower", found=size, expected=", ".join(_SIZES))
    shape = dict(_SIZES[size])
    depths, widths = shape.pop("depths"), shape["widths"]
    shape["hidden"] = tuple((3 * w,) * d for w, d in zip(widths, depths, strict=True))
    return MciConfig(**{**shape, **changes})


class ConditionalPositions(Mergeable):
    """x plus a depthwise 7 x 7 convolution of it, (B, C, H, W). Chu et al. 2023, section 3.2."""

    def __init__(self, width: int, branches: bool) -> None:
        super().__init__()
        self.conv = Conv2d(width, width, 7, padding=3, groups=width)
        self.skip = branches

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.skip else out

    def merge(self) -> None:
        if self.skip:
            self.conv.weight.data += identity_kernel(self.conv.weight)
            self.skip = False


class Attention(Mergeable):
    """BatchNorm and multi-head self-attention over the positions of a map (B, C, H, W), unchanged in shape.

    The norm is folded into the projection to queries, keys and values, and the scale of the residual into the last.
    """

    def __init__(self, width: int, head_dim: int, branches: bool, scale: float) -> None:
        super().__init__()
        self.heads, self.dim = width // head_dim, head_dim
        self.norm = nn.BatchNorm2d(width) if branches else None
        self.qkv = nn.Linear(width, 3 * width, bias=not branches)
        self.out = nn.Linear(width, width)
        self.scale: nn.Parameter | None = nn.Parameter(torch.full((width, 1, 1), scale)) if branches else None
        for layer in (self.qkv, self.out):
            nn.init.trunc_normal_(layer.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        tokens = (x if self.norm is None else self.norm(x)).flatten(2).transpose(1, 2)
        packed = self.qkv(tokens).unflatten(-1, (3 * self.heads, self.dim)).transpose(1, 2)
        q, k, v = packed.split(self.heads, dim=1)
        scores = torch.matmul(q * self.dim**-0.5, k.transpose(-1, -2))
        mixed = self.out(torch.matmul(scores.softmax(-1), v).transpose(1, 2).flatten(2))
        out: Tensor = mixed.transpose(1, 2).unflatten(2, size)
        return out if self.scale is None else out * self.scale

    def merge(self) -> None:
        if self.norm is None or self.scale is None:
            return
        scale, shift = scale_and_shift(self.norm)
        qkv = nn.Linear(self.qkv.in_features, self.qkv.out_features)
        filled(qkv, self.qkv.weight * scale, self.qkv.weight @ shift)
        residual = self.scale.flatten()
        filled(self.out, self.out.weight * residual[:, None], self.out.bias * residual)
        self.qkv, self.norm, self.scale = qkv, None, None


class AttentionBlock(nn.Module):
    """Self-attention and a ConvMLP, each beside a skip connection. FastViT, section 3.3."""

    def __init__(self, width: int, hidden: int, head_dim: int, branches: bool, scale: float) -> None:
        super().__init__()
        self.mixer = Attention(width, head_dim, branches, scale)
        self.mlp = ConvMLP(width, hidden, (7, 7), branches, scale)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(x)
        out: Tensor = x + self.mlp(x)
        return out


class Stage(nn.Module):
    """Halves height and width where it has an ``embed`` part, adds positions where it attends, then its blocks."""

    def __init__(self, config: MciConfig, i: int) -> None:
        super().__init__()
        width, branches, scale = config.widths[i], config.branches, config.layer_scale
        self.embed: nn.Module | None = None
        if i:
            before, squeeze = config.widths[i - 1], width // 4 if config.squeeze[i] else 0
            self.embed = nn.Sequential(
                RepConv(
                    before,
                    width,
                    (7, 7),
                    kernels=((7, 7), (3, 3)),
                    stride=2,
                    groups=before,
                    squeeze=squeeze,
                    branches=branches,
                ),
                RepConv(width, width, (1, 1), kernels=((1, 1),), skip=True, branches=branches),
            )
        self.positions = ConditionalPositions(width, branches) if config.attention[i] else None
        self.blocks = nn.ModuleList(
            AttentionBlock(width, hidden, config.head_dim, branches, scale)
            if config.attention[i]
            else RepMixerBlock(width, hidden, (3, 3), (7, 7), branches, scale)
            for hidden in config.hidden[i]
        )

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.embed, self.positions, *self.blocks):
            x = x if part is None else part(x)
        return x


class Mci(Mergeable):
    """Pictures to embeddings: float32 (B, 3, S, S), S a multiple of 32, to float32 (B, D), not normalised."""

    def __init__(self, config: MciConfig) -> None:
        super().__init__()
        self.config = config
        first, last, branches = config.widths[0], config.widths[-1], config.branches
        both = ((3, 3), (1, 1))
        self.stem = nn.Sequential(
            RepConv(3, first, (3, 3), kernels=both, stride=2, branches=branches),
            RepConv(first, first, (3, 3), kernels=both, stride=2, groups=first, branches=branches),
            RepConv(first, first, (1, 1), kernels=((1, 1),), skip=True, branches=branches),
        )
        self.stages = nn.ModuleList(Stage(config, i) for i in range(len(config.widths)))
        features = last * config.expansion
        self.expand = RepConv(
            last, features, (3, 3), kernels=both, groups=last, squeeze=features // 16, branches=branches
        )
        self.projection = nn.Linear(features, config.embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=features**-0.5)

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (B, F) before the projection."""
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        pooled: Tensor = self.expand(x).mean((2, 3))
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.projection(self.features(images))
        return out

    def merge(self) -> None:
        self.config = replace(self.config, branches=False)
