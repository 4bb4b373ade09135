"""Which class builds which config."""

from __future__ import annotations

from edgekit.distill.clip.config import (
    BertConfig,
    EfficientNetConfig,
    ImageConfig,
    MciConfig,
    NoTextConfig,
    TextTowerConfig,
)
from edgekit.distill.clip.efficientnet import EfficientNet
from edgekit.distill.clip.mci import Mci
from edgekit.distill.clip.text import BertTower, NoText, TextTransformer
from edgekit.distill.clip.vit import Vit

ImageTower = Mci | EfficientNet | Vit
TextTower = TextTransformer | BertTower | NoText


def build_image(config: ImageConfig) -> ImageTower:
    """An image tower with fresh weights: float32 (B, 3, S, S) to float32 (B, D), not normalised."""
    if isinstance(config, MciConfig):
        return Mci(config)
    return EfficientNet(config) if isinstance(config, EfficientNetConfig) else Vit(config)


def build_text(config: TextTowerConfig) -> TextTower:
    """A text tower with fresh weights: int64 ids and mask (B, T) to float32 (B, D), not normalised."""
    if isinstance(config, NoTextConfig):
        return NoText(config)
    return BertTower(config) if isinstance(config, BertConfig) else TextTransformer(config)
