"""Text towers: CLIP's transformer, MobileCLIP's hybrid of it, and edgekit's own BERT encoder."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from edgekit.distill.clip.config import BertConfig, NoTextConfig, TextConfig
from edgekit.distill.clip.reparam import Mergeable, RepMixerBlock
from edgekit.distill.clip.transformer import Layer, causal_mask, initialise
from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.errors import ModelError


class TextTransformer(Mergeable):
    """Token ids to embeddings: int64 (B, T), T at most the context length, to float32 (B, D), not normalised.

    Radford et al. 2021, section 2.4; with ``repmixer``, MobileCLIP's mct (Vasu et al. 2024, section 4.2). The attention
    mask is not looked at: a causal text is read up to its end-of-text, before all padding, and the others were
    trained with their padding seen (see ``TextConfig.fixed_length``).
    """

    causal: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        width, branches = config.width, config.branches
        self.word = nn.Embedding(config.vocab_size, width)
        self.position = nn.Parameter(torch.randn(config.context_length, width) * 0.01)
        kernel = (1, config.repmixer)
        ends = [
            RepMixerBlock(width, hidden, kernel, kernel, branches, config.layer_scale)
            for hidden in (config.mixer_hidden if config.repmixer else ())
        ]
        self.first: RepMixerBlock | None = ends[0] if ends else None
        self.last: RepMixerBlock | None = ends[1] if ends else None
        self.layers = nn.ModuleList(
            Layer(width, heads, config.head_dim, ffn, config.activation, config.eps)
            for heads, ffn in zip(config.heads, config.ffn, strict=True)
        )
        self.norm = nn.LayerNorm(width, eps=config.eps)
        self.projection = nn.Linear(width, config.embed_dim, bias=config.projection_bias)
        self.register_buffer("causal", causal_mask(config.context_length), persistent=False)
        nn.init.normal_(self.word.weight, std=0.02)
        initialise(self.layers, width)
        nn.init.normal_(self.projection.weight, std=width**-0.5)

    def features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The normed hidden state (B, width) of the token that stands for the text."""
        length = input_ids.shape[1]
        x = _mix(self.first, self.word(input_ids) + self.position[:length])
        mask = self.causal[:length, :length] if self.config.causal else None
        for layer in self.layers:
            x = layer(x, mask)
        x = _mix(self.last, x)
        return self.norm(x[:, -1] if self.config.pooling == "last" else _row(x, self.end(input_ids)))

    def end(self, input_ids: Tensor) -> Tensor:
        """Position (B,) of each text's end; the first of several."""
        eos = self.config.eos_id
        return (input_ids if eos is None else (input_ids == eos).to(torch.int32)).argmax(-1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        out: Tensor = self.projection(self.features(input_ids))
        return out

    def merge(self) -> None:
        self.config = replace(self.config, branches=False)


def _mix(block: RepMixerBlock | None, x: Tensor) -> Tensor:
    """A RepMixer block over a text (B, T, C), seen as a map one row high."""
    return x if block is None else block(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)


def _row(x: Tensor, index: Tensor) -> Tensor:
    """x (B, T, C) at position ``index`` (B,) of each text, as a product: every engine has that, not all a gather."""
    here = torch.arange(x.shape[1], device=x.device) == index[:, None]
    return torch.matmul(here.to(x.dtype)[:, None, :], x).squeeze(1)


class NoText(nn.Module):
    """The place of a text tower that is not there. Raises ModelError when it is asked."""

    def __init__(self, config: NoTextConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        raise ModelError("text tower", found="none", expected="one, as a text is to be embedded")


class BertTower(nn.Module):
    """edgekit's BERT encoder and a linear projection: int64 ids and mask (B, T) to float32 (B, D), not normalised."""

    def __init__(self, config: BertConfig, encoder: Encoder | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(EncoderConfig(**config.encoder)) if encoder is None else encoder
        shape = self.encoder.config
        if shape.task != "embed" or shape.normalize or shape.max_positions < config.context_length:
            raise ModelError(
                "text.encoder",
                found=f"task {shape.task}, normalize {shape.normalize}, {shape.max_positions} positions",
                expected=f"task embed, normalize False and at least {config.context_length} positions",
            )
        self.projection = nn.Linear(shape.hidden_size, config.embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=shape.hidden_size**-0.5)

    @classmethod
    def of(cls, encoder: Encoder, embed_dim: int) -> BertTower:
        """A tower around ``encoder``, which it takes over; its task becomes embed, without normalising."""
        shape = {**encoder.config.to_diff_dict(), "task": "embed", "normalize": False, "labels": []}
        own = Encoder(EncoderConfig(**{k: v for k, v in shape.items() if k != "transformers_version"}))
        own.load_state_dict({k: v for k, v in encoder.state_dict().items() if k in own.state_dict()})
        tower = cls(BertConfig(embed_dim, own.config.max_tokens, own.config.to_diff_dict()), own)
        return tower.train(encoder.training)

    def train(self, mode: bool = True) -> BertTower:
        """As usual; in evaluation mode the encoder uses the plain operators that exporters and engines like."""
        super().train(mode)
        self.encoder.plain = not mode
        for block in self.encoder.blocks():
            block.attention.plain = not mode
        return self

    def features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The pooled hidden state (B, hidden) before the projection."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        out: Tensor = self.encoder(input_ids, mask)
        return out

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        out: Tensor = self.projection(self.features(input_ids, attention_mask))
        return out
