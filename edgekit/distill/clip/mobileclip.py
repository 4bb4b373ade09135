"""MobileCLIP-S0's published checkpoint into our towers: its shape, and its 893 names in our words.

Vasu et al. 2024. Names and shapes are those of the state dict that Apple publishes (mobileclip_s0.pt, before merging).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from edgekit.distill.clip.config import DualConfig, TextConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.mci import mci_config
from edgekit.distill.convert import State, read_state
from edgekit.errors import ModelError

# Their name, as a pattern, and ours; all that fit are applied, in this order.
_RENAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^image_encoder\.model\.", "image."),
    (r"^image\.patch_embed\.", "image.stem."),
    (r"^image\.network\.6\.pe\.", "image.stages.3.positions.conv."),
    (r"^image\.network\.7\.", "image.stages.3.blocks."),
    (r"^image\.network\.([024])\.", lambda m: f"image.stages.{int(m[1]) // 2}.blocks."),
    (r"^image\.network\.([135])\.proj\.", lambda m: f"image.stages.{int(m[1]) // 2 + 1}.embed."),
    (r"^image\.conv_exp\.", "image.expand."),
    (r"^image\.head\.proj$", "image.projection.weight"),
    (r"^(image\.stages\.3\.blocks\.\d+)\.norm\.", r"\1.mixer.norm."),
    (r"^text_encoder\.embedding_layer\.", "text.word."),
    (r"^text_encoder\.positional_embedding\.pos_embed\.pos_embed$", "text.position"),
    (r"^text_encoder\.transformer\.0\.", "text.first."),
    (r"^text_encoder\.transformer\.5\.", "text.last."),
    (r"^text_encoder\.transformer\.(\d)\.", lambda m: f"text.layers.{int(m[1]) - 1}."),
    (r"^text_encoder\.final_layer_norm\.", "text.norm."),
    (r"^text_encoder\.projection_layer$", "text.projection.weight"),
    (r"\.pre_norm_mha\.0\.", ".attention_norm."),
    (r"\.pre_norm_mha\.1\.qkv_proj\.", ".attention.qkv."),
    (r"\.pre_norm_mha\.1\.out_proj\.", ".attention.out."),
    (r"\.pre_norm_ffn\.0\.", ".ffn_norm."),
    (r"\.pre_norm_ffn\.1\.", ".up."),
    (r"\.pre_norm_ffn\.4\.", ".down."),
    (r"\.token_mixer\.layer_scale$|\.layer_scale_1$", ".mixer.scale"),
    (r"\.layer_scale$|\.layer_scale_2$", ".mlp.scale"),
    (r"\.token_mixer\.proj\.", ".mixer.out."),
    (r"\.token_mixer\.", ".mixer."),
    (r"\.convffn\.conv\.", ".mlp.mix."),
    (r"\.convffn\.fc1\.", ".mlp.up."),
    (r"\.convffn\.fc2\.", ".mlp.down."),
    (r"\.(rbr_conv\.0|lkb_origin)\.", ".branches.0."),
    (r"\.(rbr_scale|small_conv)\.", ".branches.1."),
    (r"\.rbr_skip\.", ".skip."),
    (r"\.bn\.", ".norm."),
    (r"\.se\.(reduce|fc1)\.", ".squeeze.reduce."),
    (r"\.se\.(expand|fc2)\.", ".squeeze.expand."),
]
_TRANSPOSED = ("image.projection.weight", "text.projection.weight")  # published as (features, embedding)


def mobileclip_s0_config() -> DualConfig:
    """MobileCLIP-S0: mci0, a text tower of four layers between two RepMixer blocks, pixels from 0 to 1 as they are."""
    text = TextConfig(
        heads=(8,) * 4,
        ffn=(2048,) * 4,
        activation="gelu",
        causal=False,
        repmixer=11,
        mixer_hidden=(2048, 2048),
        pad_id=0,  # its tokenizer is open_clip's
    )
    return DualConfig(mci_config("mci0"), text, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), interpolation="bilinear")


def rename(published: str) -> str:
    """Our name of a tensor of the published checkpoint."""
    name = published
    for pattern, ours in _RENAMES:
        name = re.sub(pattern, ours, name)
    return name


def load_mobileclip_s0(path: Path) -> DualEncoder:
    """MobileCLIP-S0 from the published .pt file, or its tensors as .safetensors; evaluation mode, branches unmerged.

    Raises ModelError when the file cannot be read or is not that checkpoint.
    """
    return from_state(read_state(path), str(path))


def from_state(published: State, what: str = "checkpoint") -> DualEncoder:
    """As :func:`load_mobileclip_s0`, from tensors by their published names; ``what`` names them in errors."""
    config = mobileclip_s0_config()
    with torch.device("meta"):  # shapes alone, so that a wrong file is known at once
        wanted = DualEncoder(config).state_dict()
    state: dict[str, Tensor] = {}
    for theirs, value in published.items():
        ours = rename(theirs)
        if ours in _TRANSPOSED:
            value = value.T
        elif ours == "text.position":
            value = value.reshape(value.shape[-2:])
        if ours not in wanted or wanted[ours].shape != value.shape:
            raise ModelError(
                what,
                found=f"{theirs} {tuple(value.shape)}",
                expected="a tensor of mobileclip_s0.pt" if ours not in wanted else f"shape {tuple(wanted[ours].shape)}",
            )
        state[ours] = value
    if missing := wanted.keys() - state.keys():
        raise ModelError(
            what, found=f"nothing for {min(missing)}", expected=f"{len(wanted)} tensors of mobileclip_s0.pt"
        )
    model = DualEncoder(config)
    model.load_state_dict(state)
    return model.eval()
