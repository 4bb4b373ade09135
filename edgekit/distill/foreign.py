"""Models of an architecture that :mod:`edgekit.distill.convert` does not know, as transformers runs them.

They can be exported, quantized and packed. They cannot be taught, cut or trained on: those stages act on the parts of
our own encoder. In torch such a model answers like an :class:`Encoder`: ids and mask in, the task's output out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from edgekit.distill.convert import knows, labels_of, licence, sentence_pooling
from edgekit.distill.encoder import Encoder
from edgekit.distill.source import read_config, read_tokenizer, resolve, sha256_file, weights_file
from edgekit.errors import ModelError, RecipeError
from edgekit.recipe import Recipe

NAME = "foreign.json"
STAGES = ("vocabulary", "distill", "prune", "qat")  # those that act on the parts of our own encoder
_KINDS = {
    "embed": "AutoModel",
    "classify": "AutoModelForSequenceClassification",
    "tag": "AutoModelForTokenClassification",
}


@dataclass
class ForeignConfig:
    """What the rest of edgekit asks of a model's configuration."""

    task: str
    vocab_size: int
    pad_token_id: int
    pooling: str = "mean"
    normalize: bool = True
    labels: list[str] = field(default_factory=list)
    max_tokens: int = 128
    stride: int = 32


class Foreign(nn.Module):
    """A transformers model with the head of the task.

    ``forward(input_ids, attention_mask)``: int64 (B, T) twice -> float32 as Encoder's; segment ids, if any, are 0.
    """

    def __init__(self, inner: Any, config: ForeignConfig) -> None:
        super().__init__()
        self.inner, self.config = inner, config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found = self.inner(input_ids=input_ids, attention_mask=attention_mask)
        if self.config.task != "embed":
            return found.logits  # type: ignore[no-any-return]
        x, real = found.last_hidden_state, attention_mask.to(found.last_hidden_state.dtype)
        if self.config.pooling == "cls":
            x = x[:, 0]
        else:
            x = (x * real[:, :, None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1.0)
        return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12) if self.config.normalize else x

    def save(self, tokenizer: Tokenizer, folder: Path) -> None:
        """Write config.json, model.safetensors, tokenizer.json and foreign.json."""
        folder.mkdir(parents=True, exist_ok=True)
        self.inner.save_pretrained(folder, safe_serialization=True, max_shard_size="100GB")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / NAME).write_text(json.dumps(asdict(self.config), indent=1, sort_keys=True) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Foreign:
        """What :meth:`save` wrote, in fp32 and evaluation mode."""
        config = ForeignConfig(**json.loads((Path(folder) / NAME).read_text("utf-8")))
        return cls(_inner(Path(folder), config.task), config).eval()


def open_torch(folder: Path) -> Encoder | Foreign:
    """The torch model that a stage wrote to ``folder``, in fp32 and evaluation mode."""
    if is_foreign(folder):
        return Foreign.load(folder)
    encoder: Encoder = Encoder.from_pretrained(folder).float().eval()
    return encoder


def is_foreign(folder: Path) -> bool:
    """Whether ``folder`` is a stage's result that holds such a model."""
    return (Path(folder) / NAME).is_file()


def is_foreign_source(ref: str) -> bool:
    """Whether the model that a recipe names is of an architecture that we cannot convert. Errors as in resolve."""
    return not knows(read_config(resolve(ref)))


def left_out(recipe: Recipe) -> list[str]:
    """The stages of ``recipe`` that are left out because its model is a foreign one; [] for our own architectures.

    Raises RecipeError for one that the recipe asks for by ``enabled: true``.
    """
    if not is_foreign_source(recipe.model):
        return []
    found = []
    for name in STAGES:
        settings = getattr(recipe.stages, name)
        if settings.enabled and "enabled" in settings.model_fields_set:
            kind = read_config(resolve(recipe.model)).get("model_type")
            raise RecipeError(
                f"stages.{name}.enabled",
                found=f"true, with a model of type {kind}",
                expected="a BERT, DistilBERT or RoBERTa model",
                fix=f"Leave stages.{name} out: other architectures are exported and quantized as they are.",
            )
        if settings.enabled:
            found.append(name)
    return found


def teach(recipe: Recipe, names: list[str], out: Path) -> dict[str, Any]:
    """Write the foreign model of ``recipe`` to ``out``; ``names``: the data's labels. Returns what was done.

    Nothing is trained. Raises ModelError when its head is not one for the data.
    """
    folder = resolve(recipe.model)
    digest = sha256_file(weights_file(folder))
    if recipe.model_sha256 and digest != recipe.model_sha256:
        raise ModelError(str(weights_file(folder)), found=f"sha256 {digest}", expected=recipe.model_sha256)
    model, tokenizer = import_foreign(folder, recipe.task, recipe.max_length, recipe.stride)
    if recipe.task != "embed":
        labels = model.config.labels
        if labels not in (list(names), [f"LABEL_{i}" for i in range(len(names))]):
            raise ModelError(
                f"model {recipe.model}",
                found=f"a head with labels {labels[:6]}",
                expected=f"a head with the data's labels {list(names)[:6]}",
                fix="Only BERT, DistilBERT and RoBERTa models can be fine-tuned here; fine-tune this one before.",
            )
        model.config.labels = list(names)
    model.save(tokenizer, out)
    kind = model.inner.config.model_type
    return {
        "model_sha256": digest,
        "model_licence": licence(folder),
        "trained": "nothing: the model answers as it is",
        "architecture": f"{kind}, exported as it is; left out: {', '.join(left_out(recipe)) or 'nothing'}",
    }


def import_foreign(folder: Path, task: str, max_length: int = 128, stride: int = 32) -> tuple[Foreign, Tokenizer]:
    """The transformers model in ``folder`` with the head of ``task``. Raises ModelError when it has none or breaks."""
    raw = read_config(folder)
    _check_modules(folder)
    inner = _inner(folder, task)
    pooling, normalize = sentence_pooling(folder)
    config = ForeignConfig(
        task=task,
        vocab_size=int(inner.config.vocab_size),
        pad_token_id=int(inner.config.pad_token_id or 0),
        pooling=pooling,
        normalize=normalize and task == "embed",
        labels=[] if task == "embed" else labels_of(raw),
        max_tokens=max_length,
        stride=stride,
    )
    model = Foreign(inner, config).eval()
    ids = torch.full((1, max_length), config.pad_token_id + 1, dtype=torch.int64)
    try:
        with torch.inference_mode():
            model(ids, torch.ones_like(ids))
    except (IndexError, RuntimeError) as error:  # its position table is shorter
        raise ModelError(
            "max_length", found=f"{max_length}: {str(error)[:100]}", expected=f"what {folder.name} can take"
        ) from None
    return model, read_tokenizer(folder)


def _inner(folder: Path, task: str) -> Any:
    import transformers

    auto = getattr(transformers, _KINDS[task])
    try:
        model, report = auto.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # transformers raises many kinds; remote code is never run
        raise ModelError(
            f"model {folder}",
            found=" ".join(str(error).split())[:200],
            expected=f"an architecture of this transformers for {task}",
        ) from None
    unused = ("position_ids", "pooler.") if task == "embed" else ("position_ids",)
    absent = [name for name in report["missing_keys"] if not any(part in name for part in unused)]
    if absent:
        raise ModelError(f"weights of {folder}", found=f"no {', '.join(absent[:3])}", expected=f"a model for {task}")
    return model.eval()


def _check_modules(folder: Path) -> None:
    """A sentence-transformers folder may hold more than mean or first-token pooling and normalising: not ours."""
    path = folder / "modules.json"
    kinds = [m["type"].rsplit(".", 1)[-1] for m in json.loads(path.read_text("utf-8"))] if path.is_file() else []
    more = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
    if more:
        raise ModelError(str(path), found=f"module {more[0]}", expected="Transformer, Pooling and Normalize alone")
    path = folder / "1_Pooling" / "config.json"
    pooling = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    modes = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on]
    if modes not in ([], ["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
        raise ModelError(str(path), found=", ".join(modes), expected="pooling_mode_mean_tokens or _cls_token alone")
