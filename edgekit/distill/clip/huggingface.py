"""Hugging Face CLIPModel and SiglipModel folders into our own towers, weight by weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekit.distill.clip.config import CLIP_MEAN, CLIP_STD, DualConfig, TextConfig, VitConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.convert import State, read_state
from edgekit.distill.source import read_config, resolve, weights_file
from edgekit.errors import ModelError

_LAYER = {
    "attention.out": "self_attn.out_proj",
    "attention_norm": "layer_norm1",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "ffn_norm": "layer_norm2",
}
_FILTERS = {2: "bilinear", 3: "bicubic"}  # PIL's numbers of resampling filters


def import_dual(ref: str) -> DualEncoder:
    """The CLIPModel or SiglipModel that ``ref`` names (see :func:`resolve`), in fp32 and evaluation mode.

    Raises ModelError for another architecture, an activation or a filter that we do not have, or wrong weights.
    """
    folder = resolve(ref)
    raw = read_config(folder)
    kind = raw.get("model_type")
    if kind not in ("clip", "siglip"):
        raise ModelError(f"{folder / 'config.json'}: model_type", found=kind, expected="clip or siglip")
    from transformers import AutoConfig

    theirs = AutoConfig.from_pretrained(folder, local_files_only=True)  # fills in what config.json leaves out
    config = DualConfig(
        image=_image(theirs, kind),
        text=_text(theirs, kind),
        logit_bias=kind == "siglip",
        **_preprocessing(folder, kind),
    )
    model = DualEncoder(config)
    path = weights_file(folder)
    state = read_state(path)
    ours = _vision(state, config.image, path) | _words(state, config.text, path)
    ours |= {name: _take(state, name, path).reshape(()) for name, _ in model.named_parameters() if "logit" in name}
    try:
        model.load_state_dict(ours)
    except RuntimeError as error:
        raise ModelError(str(path), found=str(error)[:300], expected="the shapes of its config.json") from None
    return model.eval()


def _image(theirs: Any, kind: str) -> VitConfig:
    vision, clip = theirs.vision_config, kind == "clip"
    return VitConfig(
        embed_dim=theirs.projection_dim if clip else vision.hidden_size,
        image_size=vision.image_size,
        patch=vision.patch_size,
        width=vision.hidden_size,
        head_dim=vision.hidden_size // vision.num_attention_heads,
        heads=(vision.num_attention_heads,) * vision.num_hidden_layers,
        ffn=(vision.intermediate_size,) * vision.num_hidden_layers,
        activation=vision.hidden_act,
        eps=vision.layer_norm_eps,
        pooling="cls" if clip else "attention",
        pool_heads=vision.num_attention_heads,
        pool_ffn=vision.intermediate_size,
        pre_norm=clip,
        patch_bias=not clip,
        projection=clip,
    )


def _text(theirs: Any, kind: str) -> TextConfig:
    text, clip = theirs.text_config, kind == "clip"
    # 2 stands in configs older than the field; their models take the highest id
    eos = text.eos_token_id if clip and text.eos_token_id != 2 else None
    return TextConfig(
        embed_dim=theirs.projection_dim if clip else text.projection_size,
        context_length=text.max_position_embeddings,
        vocab_size=text.vocab_size,
        width=text.hidden_size,
        head_dim=text.hidden_size // text.num_attention_heads,
        heads=(text.num_attention_heads,) * text.num_hidden_layers,
        ffn=(text.intermediate_size,) * text.num_hidden_layers,
        activation=text.hidden_act,
        eps=text.layer_norm_eps,
        causal=clip,
        pooling="eot" if clip else "last",
        eos_id=eos,
        projection_bias=not clip,
        pad_id=None if clip else text.pad_token_id,  # a causal tower does not see it
    )


def _preprocessing(folder: Path, kind: str) -> dict[str, Any]:
    """Mean, deviation, filter and crop as preprocessor_config.json has them, or the model family's own."""
    path = folder / "preprocessor_config.json"
    try:
        raw = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ModelError(str(path), found=str(error), expected="a JSON object") from None
    clip, half = kind == "clip", (0.5, 0.5, 0.5)
    resample = raw.get("resample", 3)
    if resample not in _FILTERS:
        raise ModelError(f"{path}: resample", found=resample, expected="2 (bilinear) or 3 (bicubic)")
    return {
        "mean": tuple(raw.get("image_mean") or (CLIP_MEAN if clip else half)),
        "std": tuple(raw.get("image_std") or (CLIP_STD if clip else half)),
        "interpolation": _FILTERS[resample],
        "resize": "crop" if raw.get("do_center_crop", clip) else "squash",
    }


def _take(state: State, name: str, path: Path) -> Tensor:
    if name not in state:
        raise ModelError(str(path), found=f"no tensor {name}", expected="a complete CLIPModel or SiglipModel")
    return state[name].float()


def _both(out: State, ours: str, state: State, theirs: str, path: Path) -> None:
    for part in ("weight", "bias"):
        out[f"{ours}.{part}"] = _take(state, f"{theirs}.{part}", path)


def _layers(out: State, ours: str, state: State, theirs: str, count: int, path: Path) -> None:
    for i in range(count):
        old, new = f"{theirs}.encoder.layers.{i}.", f"{ours}.layers.{i}."
        for part in ("weight", "bias"):
            qkv = [_take(state, f"{old}self_attn.{x}_proj.{part}", path) for x in "qkv"]
            out[f"{new}attention.qkv.{part}"] = torch.cat(qkv)
        for mine, other in _LAYER.items():
            _both(out, new + mine, state, old + other, path)


def _vision(state: State, config: Any, path: Path) -> State:
    out: State = {}
    place = "vision_model.embeddings."
    out["image.patches.weight"] = _take(state, f"{place}patch_embedding.weight", path)
    out["image.position"] = _take(state, f"{place}position_embedding.weight", path)[None]
    _layers(out, "image", state, "vision_model", len(config.heads), path)
    _both(out, "image.post_norm", state, "vision_model.post_layernorm", path)
    if config.pooling == "cls":
        out["image.first"] = _take(state, f"{place}class_embedding", path)[None, None]
        _both(out, "image.pre_norm", state, "vision_model.pre_layrnorm", path)
        out["image.projection.weight"] = _take(state, "visual_projection.weight", path)
        return out
    out["image.patches.bias"] = _take(state, f"{place}patch_embedding.bias", path)
    head, width = "vision_model.head.", config.width
    out["image.pool.query"] = _take(state, f"{head}probe", path)
    for part in ("weight", "bias"):
        qkv = _take(state, f"{head}attention.in_proj_{part}", path)
        out[f"image.pool.q.{part}"], out[f"image.pool.kv.{part}"] = qkv[:width], qkv[width:]
    names = {"out": "attention.out_proj", "norm": "layernorm", "up": "mlp.fc1", "down": "mlp.fc2"}
    for mine, other in names.items():
        _both(out, f"image.pool.{mine}", state, head + other, path)
    return out


def _words(state: State, config: Any, path: Path) -> State:
    out: State = {}
    place = "text_model.embeddings."
    out["text.word.weight"] = _take(state, f"{place}token_embedding.weight", path)
    out["text.position"] = _take(state, f"{place}position_embedding.weight", path)
    _layers(out, "text", state, "text_model", len(config.heads), path)
    _both(out, "text.norm", state, "text_model.final_layer_norm", path)
    if config.projection_bias:
        _both(out, "text.projection", state, "text_model.head", path)
    else:
        out["text.projection.weight"] = _take(state, "text_projection.weight", path)
    return out
