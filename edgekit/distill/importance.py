"""Which heads and neurons matter: scores from gradients on data, or from the weights alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edgekit.distill.batches import IGNORED, Batch, Tokens, collate
from edgekit.distill.encoder import Encoder

_BATCH = 16


@dataclass(frozen=True)
class Importance:
    """Scores, one array a layer: ``heads`` (A,) and ``ffn`` (F,), float64, higher matters more."""

    heads: list[NDArray[np.float64]]
    ffn: list[NDArray[np.float64]]


def measure(encoder: Encoder, tokens: Tokens, method: str, examples: int, seed: int) -> Importance:
    """Importance by ``method``.

    fisher: mean of squared gradients of a mask on each head and neuron (Kwon et al. 2022, section 3.2).
    gradient: mean of their absolute values (Michel et al. 2019, section 4.1). magnitude: norms of the output weights.
    The loss is the task's own; for embed, which has no labels, the outputs' projection on random signs, whose squared
    gradient is the curvature of the squared error of the embedding.
    """
    if method == "magnitude":
        return _magnitude(encoder)
    power = 2.0 if method == "fisher" else 1.0
    index = np.random.default_rng(seed).permutation(len(tokens))[:examples]
    heads = [np.zeros(a) for a in encoder.config.heads]
    ffn = [np.zeros(f) for f in encoder.config.ffn]
    generator = torch.Generator().manual_seed(seed)
    encoder.eval()
    for start in range(0, len(index), _BATCH):
        batch = collate(tokens, np.sort(index[start : start + _BATCH]))
        masks = _open_masks(encoder, len(batch.index))
        loss = _loss(encoder, batch, generator)
        gradients = torch.autograd.grad(loss, masks)
        for i, gradient in enumerate(gradients):
            target = heads if i % 2 == 0 else ffn
            target[i // 2] += gradient.abs().pow(power).sum(0).double().numpy()
    _close_masks(encoder)
    return Importance([h / len(index) for h in heads], [f / len(index) for f in ffn])


def _open_masks(encoder: Encoder, texts: int) -> list[Tensor]:
    """Masks of ones, one row a text, so that one backward pass gives each text its own gradient."""
    masks = []
    for layer in encoder.blocks():
        layer.attention.head_mask = torch.ones(texts, layer.attention.heads, requires_grad=True)
        layer.ffn_mask = torch.ones(texts, layer.up.out_features, requires_grad=True)
        masks += [layer.attention.head_mask, layer.ffn_mask]
    return masks


def _close_masks(encoder: Encoder) -> None:
    for layer in encoder.blocks():
        layer.attention.head_mask = layer.ffn_mask = None


def _loss(encoder: Encoder, batch: Batch, generator: torch.Generator) -> Tensor:
    """Sum over texts: the gradient of each text's mask row is then that text's own."""
    output = encoder(batch.input_ids, batch.attention_mask)
    if batch.labels is None:
        signs = torch.randint(0, 2, output.shape, generator=generator).to(output.dtype) * 2 - 1
        return (output * signs).sum()
    return F.cross_entropy(output.flatten(0, -2), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum")


def _magnitude(encoder: Encoder) -> Importance:
    heads, ffn = [], []
    for layer in encoder.blocks():
        out = layer.attention.out.weight.detach()
        columns = out.view(out.shape[0], layer.attention.heads, encoder.config.head_dim)
        heads.append(columns.pow(2).sum((0, 2)).sqrt().double().numpy())
        ffn.append((layer.up.weight.norm(dim=1) * layer.down.weight.norm(dim=0)).detach().double().numpy())
    return Importance(heads, ffn)
