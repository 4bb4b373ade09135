"""A vision transformer with the ends of CLIP's or SigLIP's image encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.distill.clip.config import VitConfig
from edgekit.distill.clip.transformer import Layer, activation, initialise


class AttentionPool(nn.Module):
    """One learned query looks at all patches, x (B, T, width) to (B, width). Zhai et al. 2022, section 3.1."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.activation = config.pool_heads, config.activation
        self.query = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=config.eps)
        self.up, self.down = nn.Linear(width, config.pool_ffn), nn.Linear(config.pool_ffn, width)

    def forward(self, x: Tensor) -> Tensor:
        dim = x.shape[-1] // self.heads
        q = self.q(self.query).unflatten(-1, (self.heads, dim)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2 * self.heads, dim)).transpose(1, 2).split(self.heads, dim=1)
        weights = torch.matmul(q * dim**-0.5, k.transpose(-1, -2)).softmax(-1)
        pooled = self.out(torch.matmul(weights, v).transpose(1, 2).flatten(2))[:, 0]
        out: Tensor = pooled + self.down(activation(self.activation, self.up(self.norm(pooled))))
        return out


class Vit(nn.Module):
    """Pictures to embeddings: float32 (B, 3, S, S), S the config's image size, to float32 (B, D), not normalised."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        width, patches = config.width, (config.image_size // config.patch) ** 2
        self.patches = nn.Conv2d(3, width, config.patch, config.patch, bias=config.patch_bias)
        first = config.pooling == "cls"
        self.first = nn.Parameter(torch.randn(1, 1, width) * width**-0.5) if first else None
        self.position = nn.Parameter(torch.randn(1, patches + first, width) * width**-0.5)
        self.pre_norm = nn.LayerNorm(width, eps=config.eps) if config.pre_norm else None
        self.layers = nn.ModuleList(
            Layer(width, heads, config.head_dim, ffn, config.activation, config.eps)
            for heads, ffn in zip(config.heads, config.ffn, strict=True)
        )
        self.post_norm = nn.LayerNorm(width, eps=config.eps)
        self.pool = AttentionPool(config) if config.pooling == "attention" else None
        self.projection = nn.Linear(width, config.embed_dim, bias=False) if config.projection else None
        initialise(self.layers, width)
        if self.projection is not None:
            nn.init.normal_(self.projection.weight, std=width**-0.5)

    def features(self, images: Tensor) -> Tensor:
        """Pooled and normed hidden state (B, width) before the projection."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        if self.first is not None:
            x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.position
        if self.pre_norm is not None:
            x = self.pre_norm(x)
        for layer in self.layers:
            x = layer(x)
        if self.config.pooling == "cls":
            x = x[:, 0]  # a norm of one row is that row of the norm
        x = self.post_norm(x)
        if self.pool is not None:
            x = self.pool(x)
        return x.mean(1) if self.config.pooling == "mean" else x

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(images)
        return x if self.projection is None else self.projection(x)
