"""The pre-norm transformer layer that both towers use, in the plain operators that exporters and engines like."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.distill.encoder import MASK
from edgekit.distill.encoder import activation as _activation


def activation(name: str, x: Tensor) -> Tensor:
    """One of ``config.ACTIVATIONS``; quick_gelu is CLIP's x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x) if name == "quick_gelu" else _activation(name, x)


def causal_mask(length: int) -> Tensor:
    """What is added to scores so that no token sees a later one: float32 (length, length), 0 and -10000.

    Finite, so that float16 holds it and INT8 ranges stay finite.
    """
    return torch.full((length, length), MASK).triu(1)


class SelfAttention(nn.Module):
    """Multi-head self-attention, x (B, T, width); ``heads`` may be fewer than width / head_dim (pruned)."""

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, head_dim
        self.qkv = nn.Linear(width, 3 * heads * head_dim)
        self.out = nn.Linear(heads * head_dim, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        packed = self.qkv(x).unflatten(-1, (3 * self.heads, self.dim)).transpose(1, 2)
        q, k, v = packed.split(self.heads, dim=1)
        if self.training:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype))
        else:
            scores = torch.matmul(q * self.dim**-0.5, k.transpose(-1, -2))
            mixed = torch.matmul((scores if mask is None else scores + mask).softmax(-1), v)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Layer(nn.Module):
    """Pre-norm transformer layer, x (B, T, width). Radford et al. 2019 (GPT-2), section 2.3."""

    def __init__(self, width: int, heads: int, head_dim: int, ffn: int, act: str, eps: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.attention = SelfAttention(width, heads, head_dim)
        self.ffn_norm = nn.LayerNorm(width, eps=eps)
        self.up = nn.Linear(width, ffn)
        self.down = nn.Linear(ffn, width)
        self.activation = act

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask)
        out: Tensor = x + self.down(activation(self.activation, self.up(self.ffn_norm(x))))
        return out


def initialise(layers: nn.ModuleList, width: int) -> None:
    """CLIP's start: the more layers, the smaller the residual branches (Radford et al. 2021, its published code)."""
    residual = width**-0.5 * (2 * max(1, len(layers))) ** -0.5
    for layer in layers:
        if not isinstance(layer, Layer):
            continue
        spread = {layer.attention.qkv: width**-0.5, layer.attention.out: residual}
        spread |= {layer.up: (2 * width) ** -0.5, layer.down: residual}
        for linear, std in spread.items():
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
