"""One encoder for teacher, student and export: BERT's mathematics, any number of heads and neurons in each layer.

Written the way that engines like: one Linear for query, key and value, a finite mask, two inputs. Segment
embeddings of segment 0 are folded into the position table, so no third input is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel

MASK = -10000.0  # finite, so that INT8 ranges stay finite too


class EncoderConfig(PretrainedConfig):
    """Shape and task of an encoder. ``heads`` and ``ffn`` give one number a layer, so pruned models reload.

    ``exits``: depths, below the full one, at which it can answer too (a ladder's student).
    """

    model_type = "edgekit-encoder"

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 384,
        head_dim: int = 32,
        heads: list[int] | None = None,
        ffn: list[int] | None = None,
        max_positions: int = 512,
        layer_norm_eps: float = 1e-12,
        activation: str = "gelu",
        dropout: float = 0.1,
        task: str = "embed",
        pooling: str = "mean",
        normalize: bool = True,
        head_activation: str = "",
        labels: list[str] | None = None,
        max_tokens: int = 128,
        stride: int = 32,
        exits: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.head_dim = head_dim
        self.heads = list(heads if heads is not None else [12] * 6)
        self.ffn = list(ffn if ffn is not None else [1536] * 6)
        self.max_positions = max_positions
        self.layer_norm_eps = layer_norm_eps
        self.activation = activation
        self.dropout = dropout
        self.task = task
        self.pooling = pooling
        self.normalize = normalize
        self.head_activation = head_activation
        self.labels = list(labels or [])
        self.max_tokens = max_tokens
        self.stride = stride
        self.exits = list(exits or [])
        super().__init__(**kwargs)

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return len(self.heads)


@dataclass(frozen=True)
class States:
    """What a forward pass shows to the losses. Float tensors; B texts, T tokens, H hidden, A heads, D head size."""

    output: Tensor  # logits (B, C), embeddings (B, H), or token logits (B, T, C)
    hidden: list[Tensor]  # layers + 1 tensors (B, T, H), the embeddings first
    qkv: list[tuple[Tensor, Tensor, Tensor]]  # a layer: query, key, value, each (B, A, T, D)


def activation(name: str, x: Tensor) -> Tensor:
    if name == "gelu":
        return F.gelu(x)
    if name in ("gelu_new", "gelu_pytorch_tanh"):
        return F.gelu(x, approximate="tanh")
    if name == "relu":
        return F.relu(x)
    if name == "tanh":
        return torch.tanh(x)
    return x


class Attention(nn.Module):
    """Self-attention with one fused QKV projection; ``heads`` may differ from hidden_size / head_dim (pruned)."""

    def __init__(self, config: EncoderConfig, heads: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, config.head_dim
        self.qkv = nn.Linear(config.hidden_size, 3 * heads * self.dim)
        self.out = nn.Linear(heads * self.dim, config.hidden_size)
        self.dropout = config.dropout
        self.head_mask: Tensor | None = None  # (B, heads), only while importance is measured
        self.plain = False  # see Encoder.as_plain

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, H) -> query, key, value, each (B, A, T, D)."""
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        b, t, _ = x.shape
        if self.plain:
            # one reshape and one transpose for all three: a split along heads then copies whole blocks
            packed = self.qkv(x).view(b, t, 3 * self.heads, self.dim).transpose(1, 2)
            q, k, v = packed.split(self.heads, dim=1)
            scores = torch.matmul(q, k.transpose(-1, -2)) * (self.dim**-0.5) + mask
            context = torch.matmul(scores.softmax(-1), v)
        else:
            q, k, v = self.project(x)
            context = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask.to(q.dtype), dropout_p=self.dropout if self.training else 0.0
            )
        if self.head_mask is not None:
            context = context * self.head_mask[:, :, None, None]
        return self.out(context.transpose(1, 2).reshape(b, t, self.heads * self.dim)), q, k, v


class Layer(nn.Module):
    """Post-norm transformer layer (Devlin et al. 2019)."""

    def __init__(self, config: EncoderConfig, heads: int, ffn: int) -> None:
        super().__init__()
        self.attention = Attention(config, heads)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up = nn.Linear(config.hidden_size, ffn)
        self.down = nn.Linear(ffn, config.hidden_size)
        self.ffn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.activation = config.activation
        self.ffn_mask: Tensor | None = None  # (B, ffn), only while importance is measured

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        attended, q, k, v = self.attention(x, mask)
        x = self.attention_norm(x + self.dropout(attended))
        inner = activation(self.activation, self.up(x))
        if self.ffn_mask is not None:
            inner = inner * self.ffn_mask[:, None, :]
        return self.ffn_norm(x + self.dropout(self.down(inner))), q, k, v


class Exit(nn.Module):
    """What reads an answer from hidden states of one depth: the pooler and the classifier, where the task has them.

    An exit with both of its own is DeeBERT's off-ramp (Xin et al. 2020).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.head = nn.Linear(config.hidden_size, config.hidden_size) if config.head_activation else None
        self.classifier = nn.Linear(config.hidden_size, len(config.labels)) if config.labels else None


class Encoder(PreTrainedModel):
    """Token ids to logits, embeddings or token logits, by ``config.task``.

    ``forward(input_ids, attention_mask)``: int64 (B, T), 1 for a token and 0 for padding; float output as in
    :class:`States`. Saves and reloads any pruned shape with ``save_pretrained`` / ``from_pretrained``.
    ``layer_drop``: in training, the chance that a text skips a layer (LayerDrop, Fan et al. 2020, drawn for each text
    as in stochastic depth, Huang et al. 2016), so that none leans on the layer before it.
    """

    config_class = EncoderConfig
    base_model_prefix = "encoder"

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_positions, config.hidden_size)
        self.embedding_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(Layer(config, h, f) for h, f in zip(config.heads, config.ffn, strict=True))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden_size, config.hidden_size) if config.head_activation else None
        self.classifier = nn.Linear(config.hidden_size, len(config.labels)) if config.labels else None
        self.exits = nn.ModuleDict({str(depth): Exit(config) for depth in config.exits})
        self.plain = False
        self.layer_drop = 0.0
        self.post_init()

    def blocks(self) -> list[Layer]:
        """The transformer layers, first to last."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    @contextmanager
    def as_plain(self) -> Iterator[Encoder]:
        """Within: the same mathematics in evaluation mode, in the plain operators that exporters and engines like."""
        parts: list[Encoder | Attention] = [self, *(block.attention for block in self.blocks())]
        was_training = self.training
        self.eval()
        for part in parts:
            part.plain = True
        try:
            yield self
        finally:
            for part in parts:
                part.plain = False
            self.train(was_training)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(0.0, 0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.zero_()

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> States:
        """All that distillation looks at, in one pass."""
        length = input_ids.shape[1]
        positions = self.position.weight[:length]
        x = self.dropout(self.embedding_norm(self.word(input_ids) + positions))
        real = attention_mask.to(x.dtype)
        mask = (1.0 - real)[:, None, None, :] * MASK
        hidden, qkv = [x], []
        for layer in self.layers:
            before = x
            x, *projected = layer(x, mask)
            if self.training and self.layer_drop:
                x = torch.where(torch.rand(len(x), 1, 1, device=x.device) < self.layer_drop, before, x)
            hidden.append(x)
            qkv.append(tuple(projected))
        return States(self._read_out(x, real, self), hidden, qkv)

    def exit_outputs(self, states: States, attention_mask: Tensor) -> list[Tensor]:
        """What each exit answers, in the order of ``config.exits``, each as :attr:`States.output`."""
        real = attention_mask.to(states.hidden[0].dtype)
        exits = [one for one in self.exits.values() if isinstance(one, Exit)]
        return [
            self._read_out(states.hidden[depth], real, one) for depth, one in zip(self.config.exits, exits, strict=True)
        ]

    def truncate(self, depth: int) -> Encoder:
        """A copy of the first ``depth`` layers that answers as the exit there does; the full depth, without exits.

        Raises ``ValueError`` for a depth without an exit.
        """
        if depth not in (*self.config.exits, self.config.layers):
            raise ValueError(f"depth {depth}: the exits are at {self.config.exits}, the end at {self.config.layers}")
        config = EncoderConfig.from_dict(self.config.to_dict())
        config.heads, config.ffn, config.exits = config.heads[:depth], config.ffn[:depth], []
        cut = Encoder(config)
        state = dict(self.state_dict())
        if depth < self.config.layers:
            prefix = f"exits.{depth}."
            state |= {name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)}
        cut.load_state_dict({name: state[name] for name in cut.state_dict()})
        return cut.to(self.device).train(self.training)

    def _read_out(self, x: Tensor, real: Tensor, exit_: Exit | Encoder) -> Tensor:
        if self.config.task != "tag":
            if self.config.pooling == "cls":
                x = x[:, 0]
            else:
                count = real.sum(1, keepdim=True).clamp(min=1.0)
                if self.plain:  # engines run a product faster than a masked sum
                    x = torch.matmul(real[:, None, :], x).squeeze(1) / count
                else:
                    x = (x * real[:, :, None]).sum(1) / count
        if exit_.head is not None:
            x = activation(self.config.head_activation, exit_.head(x))
        if exit_.classifier is not None:
            return exit_.classifier(self.dropout(x))
        if self.config.normalize:
            x = x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return x

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.states(input_ids, attention_mask).output
