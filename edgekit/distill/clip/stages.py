"""The stages of a dual encoder: a teacher trained or taken as it is, a student that follows it, and its pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from edgekit.data import PictureSplits, PictureTextSet
from edgekit.distill.clip.config import TextConfig
from edgekit.distill.clip.dual import DualEncoder, is_dual
from edgekit.distill.clip.folder import embed, load, reader, save
from edgekit.distill.clip.huggingface import import_dual
from edgekit.distill.clip.objective import PairObjective, Targets
from edgekit.distill.clip.pairs import make_pairs
from edgekit.distill.clip.prune import prune_image, prune_text
from edgekit.distill.clip.shapes import dual_config
from edgekit.distill.clip.text import TextTransformer
from edgekit.distill.clip_bpe import train_clip_bpe
from edgekit.distill.loop import train
from edgekit.distill.settings import loop_config
from edgekit.distill.source import read_tokenizer, resolve, sha256_file, weights_file
from edgekit.errors import ModelError, RecipeError
from edgekit.evaluate.dual import recall
from edgekit.progress import Progress
from edgekit.recipe import Recipe
from edgekit.recipe.schema import NEW
from edgekit.recipe.stages import PairLosses, Training

Splits = PictureSplits[PictureTextSet]


def teach(recipe: Recipe, splits: Splits, out: Path, work: Path, progress: Progress) -> dict[str, Any]:
    """Write the teacher to ``out``: trained on the pairs when the recipe's model is ``new``, else as it came."""
    if recipe.model != NEW:
        model, tokenizer, digest = _given(recipe)
        save(model, tokenizer, out)
        return {"model_sha256": digest, "trained": "nothing: the model embeds as it is", **_shape(model)}
    torch.manual_seed(recipe.seed)
    tokenizer = train_clip_bpe(splits.train.captions, recipe.teacher.vocab_size)
    model = DualEncoder(dual_config(recipe.teacher, tokenizer.get_vocab_size()))
    report = _train(recipe, splits, model, tokenizer, None, recipe.stages.teach, work, "teach", progress)
    save(model, tokenizer, out)
    return {"trained": "both towers, from nothing", **_shape(model), **report}


def distil(recipe: Recipe, splits: Splits, source: Path, out: Path, work: Path, progress: Progress) -> dict[str, Any]:
    """Train a student in the shape of ``student.towers`` on the answers of the model in ``source``."""
    teacher, tokenizer = load(source)
    if recipe.student.towers is None:
        raise RecipeError("student.towers", found="nothing", expected="the shape of the student, for task clip")
    torch.manual_seed(recipe.seed)
    config = dual_config(recipe.student.towers, tokenizer.get_vocab_size(), like=teacher.config)
    student = DualEncoder(config)
    report = follow(recipe, splits, student, source, recipe.stages.distill, work, "distill", progress)
    save(student, tokenizer, out)
    return {
        **_shape(student),
        "times_fewer_parameters": round(parameters(teacher) / parameters(student), 2),
        **report,
    }


def prune(
    recipe: Recipe, splits: Splits, source: Path, teacher: Path, out: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Write the model in ``source`` with fewer channels, heads and blocks, recovered by following ``teacher``."""
    settings = recipe.stages.prune
    model, tokenizer = load(source)
    before = _shape(model)
    probe = splits.train.take(range(min(len(splits.train), settings.importance_examples)))
    pairs = make_pairs(probe, model.config, reader(tokenizer, model.config))
    progress.say(f"prune: importance on {len(pairs)} pictures")
    image = prune_image(model.image, pairs.images(slice(None)), settings.ffn, blocks=settings.layers)
    text = model.text
    if isinstance(text, TextTransformer):
        text = prune_text(text, torch.from_numpy(pairs.ids[: len(pairs)]), ffn=settings.ffn, heads=settings.heads)
    small = DualEncoder(model.config, image, text)
    small.load_state_dict({k: v for k, v in model.state_dict().items() if "logit" in k}, strict=False)
    report: dict[str, Any] = {"epochs": 0}
    if settings.recovery.epochs or settings.recovery.min_steps:
        report = follow(recipe, splits, small, teacher, settings.recovery, work, "recover", progress)
    save(small, tokenizer, out)
    return {"before": before, "after": _shape(small), **report}


def follow(
    recipe: Recipe,
    splits: Splits,
    student: DualEncoder,
    source: Path,
    training: Training,
    work: Path,
    label: str,
    progress: Progress,
) -> dict[str, Any]:
    """Train ``student`` in place on the embeddings of the model in ``source``, which shares its tokenizer."""
    teacher, tokenizer = load(source)
    data = _limited(splits.train, training, recipe.seed)
    theirs = make_pairs(data, teacher.config, reader(tokenizer, teacher.config), progress)
    images, texts = embed(teacher, theirs, progress)
    targets = Targets(images, texts, float(teacher.scale().detach()))
    weights = recipe.stages.distill.pair_losses
    return _train(recipe, splits, student, tokenizer, targets, training, work, label, progress, weights)


def parameters(model: torch.nn.Module) -> int:
    """Numbers that the model holds."""
    return sum(p.numel() for p in model.parameters())


def _train(
    recipe: Recipe,
    splits: Splits,
    model: DualEncoder,
    tokenizer: Tokenizer,
    targets: Targets | None,
    training: Training,
    work: Path,
    label: str,
    progress: Progress,
    weights: PairLosses | None = None,
) -> dict[str, Any]:
    read = reader(tokenizer, model.config)
    data = _limited(splits.train, training, recipe.seed)
    held = make_pairs(splits.validation, model.config, read, progress)
    objective = PairObjective(model, weights or PairLosses(), targets)

    def validate(student: DualEncoder) -> float:
        return recall(embed(student, held), splits.validation).value

    report = train(
        objective,
        make_pairs(data, model.config, read, progress),
        loop_config(recipe, training),
        validate,
        work / "checkpoints",
        label,
        progress,
    )
    used = {k: v for k, v in (weights or PairLosses()).model_dump().items() if v} if targets else {"contrastive": 1.0}
    return {"losses": used, **report}


def _limited(data: PictureTextSet, training: Training, seed: int) -> PictureTextSet:
    if training.max_examples is None or training.max_examples >= len(data):
        return data
    return data.take(np.sort(np.random.default_rng(seed).permutation(len(data))[: training.max_examples]))


def _given(recipe: Recipe) -> tuple[DualEncoder, Tokenizer, str]:
    folder = resolve(recipe.model)
    digest = sha256_file(weights_file(folder))
    if recipe.model_sha256 and digest != recipe.model_sha256:
        raise ModelError(str(weights_file(folder)), found=f"sha256 {digest}", expected=recipe.model_sha256)
    model = DualEncoder.load(folder) if is_dual(folder) else import_dual(recipe.model)
    return model, read_tokenizer(folder), digest


def _shape(model: DualEncoder) -> dict[str, Any]:
    image, text = model.config.image, model.config.text
    layers = len(text.heads) if isinstance(text, TextConfig) else None
    return {
        "image_tower": f"{image.kind}, {image.image_size} px, {parameters(model.image):,} parameters",
        "text_tower": f"{text.kind}, {layers or 'BERT'} layers, {parameters(model.text):,} parameters",
        "parameters": parameters(model),
    }
