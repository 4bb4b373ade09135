"""From a recipe's few words about towers to their whole configs."""

from __future__ import annotations

from edgekit.distill.clip.config import (
    DualConfig,
    EfficientNetConfig,
    ImageConfig,
    MciConfig,
    NoTextConfig,
    TextConfig,
    VitConfig,
)
from edgekit.distill.clip.efficientnet import LITE0_MEAN, LITE0_STD
from edgekit.distill.clip.mci import mci_config
from edgekit.recipe.schema import TowersConfig

LAYER_SCALE = 0.1  # published towers start at 1e-5, which a training of minutes does not get away from


def dual_config(towers: TowersConfig, vocab_size: int, like: DualConfig | None = None) -> DualConfig:
    """The shape that a recipe asks for. ``like``: the teacher, whose embedding length and context are taken over.

    A BERT's is not known before its weights are: its place is left empty.
    """
    embed_dim = like.embed_dim if like else towers.embed_dim
    context = like.text.context_length if like else towers.context_length
    text: TextConfig | NoTextConfig = NoTextConfig(embed_dim, context)
    if towers.text == "transformer":
        text = TextConfig(
            embed_dim=embed_dim,
            context_length=context,
            vocab_size=vocab_size,
            width=towers.text_width,
            head_dim=towers.text_width // towers.text_heads,
            heads=(towers.text_heads,) * towers.text_layers,
            ffn=(4 * towers.text_width,) * towers.text_layers,
        )
    image = _image(towers, embed_dim)
    if isinstance(image, EfficientNetConfig):
        return DualConfig(image, text, LITE0_MEAN, LITE0_STD)
    return DualConfig(image, text)


def _image(towers: TowersConfig, embed_dim: int) -> ImageConfig:
    size = towers.image_size
    if towers.image == "vit":
        width, heads = towers.image_width, towers.image_heads
        return VitConfig(
            embed_dim=embed_dim,
            image_size=size,
            patch=towers.image_patch,
            width=width,
            head_dim=width // heads,
            heads=(heads,) * towers.image_layers,
            ffn=(4 * width,) * towers.image_layers,
        )
    if towers.image == "efficientnet-lite0":
        return EfficientNetConfig(embed_dim=embed_dim, image_size=size)
    if towers.image == "mci":
        stages = len(towers.image_widths)
        return MciConfig(
            embed_dim=embed_dim,
            image_size=size,
            widths=tuple(towers.image_widths),
            hidden=tuple((3 * w,) * d for w, d in zip(towers.image_widths, towers.image_depths, strict=True)),
            attention=(False,) * (stages - 1) + (True,),
            squeeze=(False,) * stages,
            layer_scale=LAYER_SCALE,
        )
    return mci_config(towers.image, embed_dim=embed_dim, image_size=size, layer_scale=LAYER_SCALE)
