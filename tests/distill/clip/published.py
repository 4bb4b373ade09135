"""Names and shapes of the tensors in mobileclip_s0.pt, written down from its published modules, with random values."""

from __future__ import annotations

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def _norm(out: Shapes, name: str, width: int) -> None:
    for part in ("weight", "bias", "running_mean", "running_var"):
        out[f"{name}.{part}"] = (width,)
    out[f"{name}.num_batches_tracked"] = ()


def _conv_norm(out: Shapes, name: str, width: int, inputs: int, size: tuple[int, int]) -> None:
    out[f"{name}.conv.weight"] = (width, inputs, *size)
    _norm(out, f"{name}.bn", width)


def _linear(out: Shapes, name: str, width: int, *inputs: int) -> None:
    out[f"{name}.weight"], out[f"{name}.bias"] = (width, *inputs), (width,)


def _repmixer(out: Shapes, name: str, width: int, size: tuple[int, int], conv: tuple[int, int], ratio: int) -> None:
    _norm(out, f"{name}.token_mixer.norm.rbr_skip", width)
    _norm(out, f"{name}.token_mixer.mixer.rbr_skip", width)
    _conv_norm(out, f"{name}.token_mixer.mixer.rbr_conv.0", width, 1, size)
    if size[0] > 1:
        _conv_norm(out, f"{name}.token_mixer.mixer.rbr_scale", width, 1, (1, 1))
    out[f"{name}.token_mixer.layer_scale"] = out[f"{name}.layer_scale"] = (width, 1, 1)
    _convffn(out, name, width, conv, ratio)


def _convffn(out: Shapes, name: str, width: int, conv: tuple[int, int], ratio: int) -> None:
    _conv_norm(out, f"{name}.convffn.conv", width, 1, conv)
    _linear(out, f"{name}.convffn.fc1", ratio * width, width, 1, 1)
    _linear(out, f"{name}.convffn.fc2", width, ratio * width, 1, 1)


def _image(out: Shapes, root: str = "image_encoder.model") -> None:
    for i, (inputs, size) in enumerate(((3, (3, 3)), (1, (3, 3)), (64, (1, 1)))):
        _conv_norm(out, f"{root}.patch_embed.{i}.rbr_conv.0", 64, inputs, size)
        if i < 2:
            _conv_norm(out, f"{root}.patch_embed.{i}.rbr_scale", 64, inputs, (1, 1))
    _norm(out, f"{root}.patch_embed.2.rbr_skip", 64)
    for place, width, depth in ((0, 64, 2), (2, 128, 6), (4, 256, 10)):
        for block in range(depth):
            _repmixer(out, f"{root}.network.{place}.{block}", width, (3, 3), (7, 7), 3)
    for place, width, squeezed in ((1, 128, False), (3, 256, True), (5, 512, True)):
        name = f"{root}.network.{place}.proj"
        _conv_norm(out, f"{name}.0.lkb_origin", width, 1, (7, 7))
        _conv_norm(out, f"{name}.0.small_conv", width, 1, (3, 3))
        if squeezed:
            _linear(out, f"{name}.0.se.fc1", width // 4, width, 1, 1)
            _linear(out, f"{name}.0.se.fc2", width, width // 4, 1, 1)
        _conv_norm(out, f"{name}.1.rbr_conv.0", width, width, (1, 1))
        _norm(out, f"{name}.1.rbr_skip", width)
    _linear(out, f"{root}.network.6.pe", 512, 1, 7, 7)
    for block in range(2):
        name = f"{root}.network.7.{block}"
        _norm(out, f"{name}.norm", 512)
        out[f"{name}.token_mixer.qkv.weight"] = (1536, 512)
        _linear(out, f"{name}.token_mixer.proj", 512, 512)
        out[f"{name}.layer_scale_1"] = out[f"{name}.layer_scale_2"] = (512, 1, 1)
        _convffn(out, name, 512, (7, 7), 3)
    _conv_norm(out, f"{root}.conv_exp.rbr_conv.0", 1024, 1, (3, 3))
    _conv_norm(out, f"{root}.conv_exp.rbr_scale", 1024, 1, (1, 1))
    _linear(out, f"{root}.conv_exp.se.reduce", 64, 1024, 1, 1)
    _linear(out, f"{root}.conv_exp.se.expand", 1024, 64, 1, 1)
    out[f"{root}.head.proj"] = (1024, 512)


def _text(out: Shapes, root: str = "text_encoder") -> None:
    out[f"{root}.embedding_layer.weight"] = (49408, 512)
    out[f"{root}.positional_embedding.pos_embed.pos_embed"] = (1, 1, 77, 512)
    for place in (0, 5):
        _repmixer(out, f"{root}.transformer.{place}", 512, (1, 11), (1, 11), 4)
    for place in range(1, 5):
        name = f"{root}.transformer.{place}"
        _linear(out, f"{name}.pre_norm_mha.0", 512)
        _linear(out, f"{name}.pre_norm_mha.1.qkv_proj", 1536, 512)
        _linear(out, f"{name}.pre_norm_mha.1.out_proj", 512, 512)
        _linear(out, f"{name}.pre_norm_ffn.0", 512)
        _linear(out, f"{name}.pre_norm_ffn.1", 2048, 512)
        _linear(out, f"{name}.pre_norm_ffn.4", 512, 2048)
    _linear(out, f"{root}.final_layer_norm", 512)
    out[f"{root}.projection_layer"] = (512, 512)


def shapes() -> Shapes:
    """Name to shape, in no particular order."""
    out: Shapes = {"logit_scale": ()}
    _image(out)
    _text(out)
    return out


def state(seed: int = 0) -> dict[str, Tensor]:
    """A checkpoint of random values: variances positive, everything else small."""
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, shape in shapes().items():
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            made[name] = torch.rand(shape, generator=generator) + 0.5
        else:
            made[name] = torch.randn(shape, generator=generator) * 0.05
    return made
