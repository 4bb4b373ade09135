"""First stage: a teacher that can answer the task. Fine-tunes a head where the model that came in has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.data import Splits
from edgekit.distill.batches import IGNORED, Batch, tokenize
from edgekit.distill.convert import Imported, import_model
from edgekit.distill.encoder import Encoder
from edgekit.distill.folder import save
from edgekit.distill.loop import Objective, train
from edgekit.distill.settings import loop_config
from edgekit.distill.validate import validator
from edgekit.errors import ModelError
from edgekit.progress import Progress
from edgekit.recipe import Recipe


class TeachObjective(Objective):
    """Cross-entropy with the labels."""

    def __init__(self, student: Encoder, smoothing: float) -> None:
        super().__init__()
        self.student, self.smoothing = student, smoothing

    def forward(self, batch: Batch) -> Tensor:
        logits = self.student(batch.input_ids, batch.attention_mask).float()
        assert batch.labels is not None
        return F.cross_entropy(
            logits.flatten(0, -2), batch.labels.flatten(), ignore_index=IGNORED, label_smoothing=self.smoothing
        )


def teach(recipe: Recipe, splits: Splits, out: Path, work: Path, progress: Progress) -> dict[str, Any]:
    """Write the teacher for ``recipe.task`` to ``out``; ``work`` keeps checkpoints. Returns what was done."""
    model = import_model(
        recipe.model,
        recipe.task,
        max_length=recipe.max_length,
        stride=recipe.stride,
        sha256=recipe.model_sha256,
    )
    done: dict[str, Any] = {"model_sha256": model.sha256, "model_licence": model.licence}
    encoder = model.encoder
    if recipe.task == "embed":
        done["trained"] = "nothing: the model embeds as it is"
    elif _same_labels(encoder, splits.names):
        encoder.config.labels = list(splits.names)
        done["trained"] = "nothing: the model has a head with these labels"
    elif not recipe.enabled("teach"):
        raise ModelError(
            f"model {recipe.model}",
            found=f"head with labels {encoder.config.labels[:6]}" if encoder.config.labels else "no head",
            expected=f"a head with the data's labels {splits.names[:6]}",
            fix="Enable the stage teach, or name a model that was fine-tuned on these labels.",
        )
    else:
        encoder, report = _fine_tune(model, recipe, splits, work, progress)
        done |= {"trained": "head and encoder", **report}
    save(encoder, model.tokenizer, out)
    return done


def _same_labels(encoder: Encoder, names: list[str]) -> bool:
    """Whether the head's classes are the data's, in order; LABEL_0, LABEL_1... stand for any names of that number."""
    labels = encoder.config.labels
    if encoder.classifier is None or len(labels) != len(names):
        return False
    return labels == names or labels == [f"LABEL_{i}" for i in range(len(names))]


def _fine_tune(
    model: Imported, recipe: Recipe, splits: Splits, work: Path, progress: Progress
) -> tuple[Encoder, dict[str, Any]]:
    config = recipe.stages.teach
    torch.manual_seed(recipe.seed)
    encoder = model.encoder
    encoder.config.labels = list(splits.names)
    encoder.classifier = nn.Linear(encoder.config.hidden_size, len(splits.names))
    encoder.classifier.weight.data.normal_(0.0, 0.02)
    encoder.classifier.bias.data.zero_()
    data = splits.train
    if config.max_examples is not None and config.max_examples < len(data):
        data = data.take(torch.randperm(len(data))[: config.max_examples].sort().values.numpy())
    tokens = tokenize(model.tokenizer, data, encoder.config.max_tokens, encoder.config.pad_token_id)
    report = train(
        TeachObjective(encoder, config.label_smoothing),
        tokens,
        loop_config(recipe, config, config.head_learning_rate),
        validator(model.tokenizer, splits.validation, encoder),
        work / "checkpoints",
        "teach",
        progress,
    )
    return encoder, report
