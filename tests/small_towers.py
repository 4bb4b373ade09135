"""The shape of a dual encoder that trains in seconds, as recipes have it."""

from __future__ import annotations

TOWERS = {
    "image": "mci",
    "image_size": 32,
    "image_widths": [32, 64],
    "image_depths": [1, 1],
    "embed_dim": 32,
    "context_length": 40,
    "vocab_size": 1024,
    "text_width": 32,
    "text_layers": 2,
    "text_heads": 2,
}
