"""BERT, DistilBERT and RoBERTa checkpoints into :class:`Encoder`, weight by weight, with nothing re-trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.distill.source import read_config, read_tokenizer, resolve, sha256_file, weights_file
from edgekit.errors import ModelError

State = dict[str, Tensor]

# our name -> theirs, for what stands once and for what stands in every layer
_BERT = {
    "embedding_norm": "embeddings.LayerNorm",
    "layer": "encoder.layer.{i}.",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
_DISTILBERT = {
    "embedding_norm": "embeddings.LayerNorm",
    "layer": "transformer.layer.{i}.",
    "q": "attention.q_lin",
    "k": "attention.k_lin",
    "v": "attention.v_lin",
    "attention.out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "ffn_norm": "output_layer_norm",
}
_NAMES = {"bert": _BERT, "roberta": _BERT, "xlm-roberta": _BERT, "camembert": _BERT, "distilbert": _DISTILBERT}
_ROBERTA = ("roberta", "xlm-roberta", "camembert")


@dataclass(frozen=True)
class Imported:
    """A model that came in: our encoder, its tokenizer, the folder, the weights' sha256 and its licence, if stated."""

    encoder: Encoder
    tokenizer: Tokenizer
    folder: Path
    sha256: str
    licence: str

    @property
    def has_head(self) -> bool:
        """Whether the model can already answer its task."""
        return self.encoder.config.task == "embed" or self.encoder.classifier is not None


def knows(config: dict[str, Any]) -> bool:
    """Whether a model with this config.json can become an :class:`Encoder`."""
    kind = config.get("model_type")
    absolute = config.get("position_embedding_type", "absolute") == "absolute"
    return kind == EncoderConfig.model_type or (kind in _NAMES and absolute)


def import_model(
    ref: str, task: str, *, max_length: int = 128, stride: int = 32, sha256: str | None = None
) -> Imported:
    """Read ``ref`` (see :func:`resolve`) as an encoder for ``task``.

    Raises ModelError for an architecture that is not BERT-type, wrong weights, or a sha256 that differs.
    """
    folder = resolve(ref)
    config = read_config(folder)
    weights = weights_file(folder)
    digest = sha256_file(weights)
    if sha256 and digest != sha256:
        raise ModelError(
            f"{weights}",
            found=f"sha256 {digest}",
            expected=sha256,
            fix="Re-install the package or correct model_sha256.",
        )
    tokenizer = read_tokenizer(folder)
    if config.get("model_type") == EncoderConfig.model_type:
        encoder = Encoder.from_pretrained(folder)
    else:
        encoder = _convert(folder, config, read_state(weights), task)
    if tokenizer.get_vocab_size() > encoder.config.vocab_size:
        raise ModelError(
            f"tokenizer of {folder}",
            found=f"{tokenizer.get_vocab_size()} pieces",
            expected=f"at most the embedding table's {encoder.config.vocab_size} rows",
        )
    if max_length > encoder.config.max_positions:
        raise ModelError(
            "max_length", found=max_length, expected=f"at most {encoder.config.max_positions}, the positions of {ref}"
        )
    encoder.config.max_tokens, encoder.config.stride = max_length, stride
    return Imported(encoder.eval(), tokenizer, folder, digest, licence(folder))


def read_state(weights: Path) -> State:
    """The tensors of a .safetensors or torch file, nothing in it executed; ModelError when it cannot be read."""
    try:
        if weights.suffix == ".safetensors":
            return load_file(weights)
        return torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # both readers raise several kinds for a damaged file
        raise ModelError(f"{weights}", found=str(error)[:200], expected="readable weights") from None


def _convert(folder: Path, config: dict[str, Any], raw: State, task: str) -> Encoder:
    kind = str(config.get("model_type"))
    if not knows(config):
        raise ModelError(
            f"{folder / 'config.json'}: model_type",
            found=kind,
            expected=", ".join(_NAMES) + " with absolute positions",
            fix="Other architectures can be exported and quantized as they are, not trained or cut.",
        )
    names = _NAMES[kind]
    prefix = "distilbert." if kind == "distilbert" else "roberta." if kind in _ROBERTA else "bert."
    state = {k.removeprefix(prefix).replace(".gamma", ".weight").replace(".beta", ".bias"): v for k, v in raw.items()}

    def take(name: str) -> Tensor:
        if name not in state:
            raise ModelError(
                f"weights of {folder}", found=f"no tensor {name}", expected=f"a complete {kind} checkpoint"
            )
        return state[name].float()

    word, position = take("embeddings.word_embeddings.weight"), take("embeddings.position_embeddings.weight")
    if kind in _ROBERTA:
        position = position[int(config.get("pad_token_id", 1)) + 1 :]  # its positions start after the padding id
    if kind != "distilbert":
        position = position + take("embeddings.token_type_embeddings.weight")[0]
    layers = int(config.get("num_hidden_layers", config.get("n_layers", 0)))
    heads = int(config.get("num_attention_heads", config.get("n_heads", 0)))
    hidden = word.shape[1]
    head = _head(kind, config, state, take, task, folder)
    converted = EncoderConfig(
        vocab_size=word.shape[0],
        hidden_size=hidden,
        head_dim=hidden // heads,
        heads=[heads] * layers,
        ffn=[int(config.get("intermediate_size", config.get("hidden_dim", 0)))] * layers,
        max_positions=position.shape[0],
        layer_norm_eps=float(config.get("layer_norm_eps", 1e-12)),
        activation=str(config.get("hidden_act", config.get("activation", "gelu"))),
        task=task,
        pad_token_id=config.get("pad_token_id", 0),
        **head.fields,
    )
    encoder = Encoder(converted)
    out: State = {"word.weight": word, "position.weight": position, **head.state}
    _copy(out, "embedding_norm", names["embedding_norm"], take)
    for i in range(layers):
        theirs, ours = names["layer"].format(i=i), f"layers.{i}."
        for part in ("weight", "bias"):
            out[f"{ours}attention.qkv.{part}"] = torch.cat([take(f"{theirs}{names[x]}.{part}") for x in "qkv"])
        for name in ("attention.out", "attention_norm", "up", "down", "ffn_norm"):
            _copy(out, ours + name, theirs + names[name], take)
    try:
        encoder.load_state_dict(out)
    except RuntimeError as error:
        raise ModelError(f"weights of {folder}", found=str(error)[:300], expected="the shapes of its config") from None
    return encoder


def _copy(out: State, ours: str, theirs: str, take: Callable[[str], Tensor]) -> None:
    for part in ("weight", "bias"):
        out[f"{ours}.{part}"] = take(f"{theirs}.{part}")


@dataclass(frozen=True)
class _Head:
    fields: dict[str, Any]
    state: State


def _head(
    kind: str, config: dict[str, Any], state: State, take: Callable[[str], Tensor], task: str, folder: Path
) -> _Head:
    """Pooling and head as the checkpoint has them; a checkpoint without a head keeps the pooling it was made for."""
    out: State = {}
    if task == "tag" and "classifier.weight" in state:
        _copy(out, "classifier", "classifier", take)
        return _Head({"labels": labels_of(config)}, out)
    if task == "classify":
        dense, last, activation = {
            "bert": ("pooler.dense", "classifier", "tanh"),
            "distilbert": ("pre_classifier", "classifier", "relu"),
        }.get(kind, ("classifier.dense", "classifier.out_proj", "tanh"))
        if f"{last}.weight" in state and f"{dense}.weight" in state:
            _copy(out, "head", dense, take)
            _copy(out, "classifier", last, take)
            return _Head({"labels": labels_of(config), "pooling": "cls", "head_activation": activation}, out)
    pooling, normalize = sentence_pooling(folder)
    return _Head({"pooling": pooling, "normalize": normalize}, out)


def labels_of(config: dict[str, Any]) -> list[str]:
    """The names of a checkpoint's classes, LABEL_0, LABEL_1... where it has none."""
    names = config.get("id2label") or {}
    if not names:
        return [f"LABEL_{i}" for i in range(int(config.get("num_labels", 2)))]
    return [str(names[k]) for k in sorted(names, key=int)]


def sentence_pooling(folder: Path) -> tuple[str, bool]:
    """What a sentence-transformers folder says of pooling and normalising; mean and unit length otherwise."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean", True
    pooling = "cls" if json.loads(path.read_text("utf-8")).get("pooling_mode_cls_token") else "mean"
    modules = folder / "modules.json"
    return pooling, modules.is_file() and "Normalize" in modules.read_text("utf-8")


def licence(folder: Path) -> str:
    """The licence that a model card's front matter states, or 'not stated'."""
    card = folder / "README.md"
    if card.is_file():
        for line in card.read_text("utf-8", errors="replace").splitlines()[:60]:
            if line.startswith("license:"):
                return line.split(":", 1)[1].strip()
    return "not stated"
