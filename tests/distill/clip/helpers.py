"""Small towers with statistics that a freshly made tower does not have, and how they are exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.distill.clip.config import (
    BertConfig,
    EfficientNetConfig,
    ImageConfig,
    MciConfig,
    TextConfig,
    TextTowerConfig,
    VitConfig,
)

SIDE = 64
MCI = MciConfig(
    embed_dim=24,
    image_size=SIDE,
    widths=(16, 32, 32, 64),
    hidden=((48, 48), (96,), (96, 96), (192, 192)),
    layer_scale=0.3,
)
LITE = EfficientNetConfig(
    embed_dim=24,
    image_size=SIDE,
    blocks=((8, 3, 1, 8), (48, 3, 2, 16), (96, 5, 1, 16), (96, 5, 2, 24), (144, 3, 1, 24)),
    features=96,
)
VIT = VitConfig(embed_dim=24, image_size=SIDE, patch=16, width=48, head_dim=12, heads=(4,) * 3, ffn=(96,) * 3)
SIGLIP_VIT = VitConfig(
    **{**VIT.__dict__, "pooling": "attention", "pool_heads": 4, "pool_ffn": 96, "pre_norm": False, "patch_bias": True}
)
IMAGES: dict[str, ImageConfig] = {"mci": MCI, "lite": LITE, "vit": VIT, "siglip": SIGLIP_VIT}

WORDS, LENGTH = 120, 16
CLIP = TextConfig(
    embed_dim=24, context_length=LENGTH, vocab_size=WORDS, width=48, head_dim=12, heads=(4,) * 3, ffn=(96,) * 3
)
MCT = TextConfig(
    **{**CLIP.__dict__, "activation": "gelu", "causal": False, "repmixer": 11, "mixer_hidden": (96, 96)},
)
LAST = TextConfig(**{**CLIP.__dict__, "causal": False, "pooling": "last", "projection_bias": True})
BERT = BertConfig(
    embed_dim=24,
    context_length=LENGTH,
    encoder={
        "vocab_size": WORDS,
        "hidden_size": 48,
        "head_dim": 12,
        "heads": [4, 4],
        "ffn": [96, 96],
        "max_positions": 32,
        "normalize": False,
    },
)
TEXTS: dict[str, TextTowerConfig] = {"clip": CLIP, "mct": MCT, "last": LAST, "bert": BERT}


def lived(model: nn.Module, seed: int = 0) -> nn.Module:
    """``model`` in evaluation mode with the statistics and scales that only a trained one has."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.copy_(draw(module.running_mean, -0.5, 0.5))
            module.running_var.copy_(draw(module.running_var, 0.3, 2.0))
            module.weight.data.copy_(draw(module.weight, 0.5, 1.5))
            module.bias.data.copy_(draw(module.bias, -0.3, 0.3))
    for name, parameter in model.named_parameters():
        if name.endswith(".scale"):
            parameter.data.copy_(draw(parameter, 0.1, 0.6))
    return model.eval()


def pictures(count: int, side: int = SIDE, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def ids(count: int = 5, length: int = LENGTH, seed: int = 2) -> Tensor:
    """Texts of different lengths: words, the highest id as their end, zeros."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(1, WORDS - 1, (count, length), generator=generator)
    for i in range(count):
        end = 2 + i % (length - 2)
        rows[i, end] = WORDS - 1
        rows[i, end + 1 :] = 0
    return rows


def mask_of(rows: Tensor) -> Tensor:
    """1 for words and the end, 0 for padding."""
    return (rows != 0).to(torch.int64)


def exported(model: nn.Module, inputs: dict[str, Tensor], path: Path) -> ort.InferenceSession:
    """``model`` through the tracing exporter, opset 17, with a batch of any size, open in onnxruntime."""
    torch.onnx.export(
        model,
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=["embedding"],
        dynamic_axes={name: {0: "batch"} for name in [*inputs, "embedding"]},
        opset_version=17,
        dynamo=False,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answer(session: ort.InferenceSession, inputs: dict[str, Tensor]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = session.run(None, {k: v.numpy() for k, v in inputs.items()})[0]
    return result
