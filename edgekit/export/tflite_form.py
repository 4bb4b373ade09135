"""An encoder for one text at a time, with what TFLite's kernels would do at run time done to its weights before."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.distill.encoder import MASK, Attention, Encoder, EncoderConfig, Layer, activation
from edgekit.distill.foreign import Foreign

LONGEST_MARKER = 128


class TfliteForm(nn.Module):
    """``forward(input_ids, attention_mask)``: int32 (1, T) twice -> float32 (1, C), (1, H) or (1, T, C).

    The same function as the encoder, up to float32 rounding, with fewer passes over its activations:

    - the scale of attention scores is in the weights of the queries;
    - a LayerNorm's bias is in the biases of the products that read it (W (y + b) = W y + W b) and, for the residual
      connection, in the bias of the product that is added to it;
    - activations have no batch axis, so no kernel needs a reshape around it.

    ``linears()`` are the products in the order of the graph, by the encoder's names for them.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        config = encoder.config
        assert isinstance(config, EncoderConfig)
        self.config = config
        self.word = nn.Embedding.from_pretrained(encoder.word.weight.detach().clone())
        # it is converted at a marker's length, which may be beyond the longest window
        rows = encoder.position.weight.detach()[: config.max_tokens]
        self.position = nn.Parameter(F.pad(rows, (0, 0, 0, max(0, LONGEST_MARKER - len(rows)))))
        self.embedding_norm = _Norm(encoder.embedding_norm)
        shift: Tensor = encoder.embedding_norm.bias
        layers = []
        for block in encoder.blocks():
            layers.append(_Layer(block, shift))
            shift = block.ffn_norm.bias
        self.layers = nn.ModuleList(layers)
        self.head = _linear(encoder.head, shift) if encoder.head is not None else None
        if encoder.head is not None:
            shift = torch.zeros_like(shift)
        self.classifier = _linear(encoder.classifier, shift) if encoder.classifier is not None else None
        self.shift = nn.Parameter(shift.detach().clone())

    def linears(self) -> list[tuple[str, nn.Linear]]:
        """Every weight product, first to last."""
        return [(name, module) for name, module in self.named_modules() if isinstance(module, nn.Linear)]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        length = input_ids.shape[1]
        x = self.embedding_norm(self.word(input_ids.view(length)) + self.position[:length])
        real = attention_mask.float()
        mask = ((real - 1.0) * -MASK).view(1, 1, length)
        for layer in self.layers:
            x = layer(x, mask)
        if self.config.task != "tag":
            x = x[:1] if self.config.pooling == "cls" else torch.matmul(real, x) / real.sum(1, keepdim=True).clamp(1.0)
        if self.head is not None:
            x = activation(self.config.head_activation, self.head(x))
        if self.classifier is not None:
            x = self.classifier(x)
            return x.view(1, length, -1) if self.config.task == "tag" else x
        x = x + self.shift
        if self.config.normalize:
            x = x * torch.rsqrt((x * x).sum(-1, keepdim=True).clamp(1e-24))
        return x


class ForeignForm(nn.Module):
    """A foreign model as it is, with the inputs of :class:`TfliteForm`."""

    def __init__(self, model: Foreign) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found: Tensor = self.model(input_ids.long(), attention_mask.long())
        return found


class _Norm(nn.Module):
    """LayerNorm without its bias."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight = nn.Parameter(norm.weight.detach().clone())
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        variance = (centred * centred).mean(-1, keepdim=True)
        return centred * torch.rsqrt(variance + self.eps) * self.weight


class _Layer(nn.Module):
    """A layer that reads activations from which ``shift`` is missing, and gives such without its own norm's bias."""

    def __init__(self, layer: Layer, shift: Tensor) -> None:
        super().__init__()
        inner = layer.attention_norm.bias
        self.attention = _Attention(layer.attention, shift)
        self.attention_norm = _Norm(layer.attention_norm)
        self.up = _linear(layer.up, inner)
        self.down = _linear(layer.down, residual=inner)
        self.ffn_norm = _Norm(layer.ffn_norm)
        self.activation = layer.activation

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention_norm(x + self.attention(x, mask))
        return self.ffn_norm(x + self.down(activation(self.activation, self.up(x))))


class _Attention(nn.Module):
    def __init__(self, attention: Attention, shift: Tensor) -> None:
        super().__init__()
        self.heads, self.dim = attention.heads, attention.dim
        self.qkv = _linear(attention.qkv, shift)
        with torch.no_grad():
            for part in (self.qkv.weight, self.qkv.bias):
                part[: self.heads * self.dim] *= self.dim**-0.5
        self.out = _linear(attention.out, residual=shift)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        length = x.shape[0]
        q, k, v = self.qkv(x).view(length, 3 * self.heads, self.dim).transpose(0, 1).split(self.heads, 0)
        shares = (torch.bmm(q, k.transpose(1, 2)) + mask).softmax(-1)
        return self.out(torch.bmm(shares, v).transpose(0, 1).reshape(length, self.heads * self.dim))


def _linear(source: nn.Linear, shift: Tensor | None = None, residual: Tensor | None = None) -> nn.Linear:
    """A copy of ``source`` for inputs from which ``shift`` is missing, with ``residual`` added to its outputs."""
    weight, bias = source.weight.detach().double(), source.bias.detach().double()
    if shift is not None:
        bias = bias + weight @ shift.detach().double()
    if residual is not None:
        bias = bias + residual.detach().double()
    made = nn.Linear(source.in_features, source.out_features)
    made.weight, made.bias = nn.Parameter(source.weight.detach().clone()), nn.Parameter(bias.float())
    return made
