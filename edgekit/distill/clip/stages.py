"""The stages of a dual encoder: a teacher trained or taken as it is, a student that follows it, and its pruning."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgekit.data import PictureSplits, PictureTextSet
from edgekit.data.folders import read_pictures
from edgekit.data.pictures import fingerprint
from edgekit.data.store import ReinforcedStore
from edgekit.distill.clip.apart import Captions, TextObjective, text_cosine
from edgekit.distill.clip.build import new_student, new_teacher
from edgekit.distill.clip.config import BertConfig, TextConfig
from edgekit.distill.clip.dual import DualEncoder, is_dual
from edgekit.distill.clip.folder import Embeddings, embed, load, reader, save
from edgekit.distill.clip.follow import BlocksObjective
from edgekit.distill.clip.heads import HeadsObjective, features, heads_of, tune
from edgekit.distill.clip.huggingface import import_dual
from edgekit.distill.clip.objective import Answers, PairObjective, Targets
from edgekit.distill.clip.pairs import Pairs, and_pictures, make_pairs, read_pixels
from edgekit.distill.clip.probe import fit_probe
from edgekit.distill.clip.prune import answers, prune_image, prune_text
from edgekit.distill.clip.reconstruct import narrow_image, reconstruct_image
from edgekit.distill.clip.reinforced import ReinforcedPairs, StoreTargets
from edgekit.distill.clip.reparam import reparameterize
from edgekit.distill.clip.text import TextTransformer
from edgekit.distill.clip.towers import ImageTower
from edgekit.distill.loop import Data, train
from edgekit.distill.settings import bf16_pays, loop_config
from edgekit.distill.source import read_tokenizer, resolve, sha256_file, weights_file
from edgekit.errors import ModelError, RecipeError, StageError
from edgekit.evaluate.closeness import PLAIN
from edgekit.evaluate.dual import answered, recall
from edgekit.progress import Progress
from edgekit.recipe import Recipe
from edgekit.recipe.schema import NEW
from edgekit.recipe.stages import PruneConfig, TruncateConfig
from edgekit.recipe.training import Training

Splits = PictureSplits[PictureTextSet]
NEAR = 256  # pictures that tell how near a rung's embeddings are to the first one's
CLIP_SCALE = 100.0  # of a cached teacher's cosines, where CLIP's training ends (Radford et al. 2021, section 2.5)


def teach(recipe: Recipe, splits: Splits, out: Path, work: Path, progress: Progress) -> dict[str, Any]:
    """Write the teacher to ``out``: trained on the pairs when the recipe's model is ``new``, else as it came."""
    if recipe.model != NEW:
        model, tokenizer, digest = _given(recipe)
        save(model, tokenizer, out)
        return {"model_sha256": digest, "trained": "nothing: the model embeds as it is", **_shape(model)}
    torch.manual_seed(recipe.seed)
    model, tokenizer = new_teacher(recipe.teacher, splits.train.captions)
    heads = recipe.stages.teach.train == "heads"
    targets = _cached(splits.train, recipe.stages.teach, recipe.seed, model)
    if targets is None and "text" not in model.towers:
        raise RecipeError(
            "teacher.text", found="none, so pictures have nothing to be held against", expected="data.train.embeddings"
        )
    if heads and targets is not None and "text" not in model.towers:
        report = _probe(recipe, splits, model, tokenizer, targets, progress)
    else:
        report = _train(
            recipe, splits, model, tokenizer, targets, recipe.stages.teach, work, "teach", progress, heads=heads
        )
    save(model, tokenizer, out)
    return {"trained": f"the projections of {_towers(model)}" if heads else _towers(model), **_shape(model), **report}


def distil(recipe: Recipe, splits: Splits, source: Path, out: Path, work: Path, progress: Progress) -> dict[str, Any]:
    """Train a student in the shape of ``student.towers``, or of the model in ``source``, on that model's answers.

    Where the data has a cached teacher's embeddings, on those.
    """
    teacher, tokenizer = load(source)
    torch.manual_seed(recipe.seed)
    student = new_student(recipe.student.towers, teacher, tokenizer.get_vocab_size())
    learn = _follow_apart if recipe.stages.distill.train == "text" else follow
    report = learn(recipe, splits, student, source, recipe.stages.distill, work, "distill", progress)
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
    if settings.importance == "reconstruction":
        return _rebuild(recipe, splits, source, out, work, progress)
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


def truncate(
    recipe: Recipe, splits: Splits, percent: int, source: Path, out: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Write a ladder's rung: the model in ``source`` with ``percent`` of its image tower's hidden channels.

    It follows that model's own embeddings, and its text tower is the same. ``cosine_with_first``: the mean over some
    pictures of the validation part, of both models' embeddings. Raises StageError where so few channels cannot be.
    """
    cut = partial(narrow_image, kept=percent / 100, progress=progress)
    try:
        small, tokenizer, _, report = _rebuilt(recipe, splits, source, recipe.stages.truncate, cut, work, progress)
    except ModelError as error:
        raise StageError(f"no rung of {percent} % of the channels: {error}") from None
    save(small, tokenizer, out)
    rows = np.linspace(0, len(splits.validation) - 1, min(len(splits.validation), NEAR)).astype(int)
    pixels = make_pairs(splits.validation.take(rows), small.config, reader(tokenizer, small.config)).images(slice(None))
    theirs, ours = (answers(tower.eval(), pixels) for tower in (load(source)[0].image, small.image))
    return {**report, "cosine_with_first": float((theirs * ours).sum(-1).mean())}


def _rebuild(recipe: Recipe, splits: Splits, source: Path, out: Path, work: Path, progress: Progress) -> dict[str, Any]:
    """The model in ``source`` with fewer hidden channels in its image tower, which then follows itself as it was."""
    settings = recipe.stages.prune
    cut = partial(reconstruct_image, share=settings.ffn, progress=progress)
    small, tokenizer, pairs, report = _rebuilt(recipe, splits, source, settings, cut, work, progress)
    if "text" not in small.towers and recipe.stages.teach.train == "heads":
        held = make_pairs(splits.validation, small.config, reader(tokenizer, small.config), progress)
        whole = load(source)[0]
        said, wanted = (embed(whole, part, progress)[0] for part in (pairs, held))
        report["probe"] = fit_probe(small, pairs, held, said, wanted, False, progress, near=True, centred=True)
    save(small, tokenizer, out)
    return report


def _rebuilt(
    recipe: Recipe,
    splits: Splits,
    source: Path,
    settings: PruneConfig | TruncateConfig,
    cut: Callable[[ImageTower, torch.Tensor], ImageTower],
    work: Path,
    progress: Progress,
) -> tuple[DualEncoder, Tokenizer, Pairs, dict[str, Any]]:
    """The model in ``source`` with its image tower ``cut``, on pictures, which then follows itself as it was."""
    model, tokenizer = load(source)
    data = _limited(splits.train, settings.recovery, recipe.seed)
    pairs = make_pairs(data, model.config, reader(tokenizer, model.config), progress, settings.recovery.augment)
    if settings.pictures is not None:
        pairs = and_pictures(pairs, read_pixels(read_pictures(settings.pictures), model.config, progress))
    some = np.sort(np.random.default_rng(recipe.seed).permutation(len(pairs))[: settings.importance_examples])
    progress.say(f"reconstruction on {len(some)} pictures")
    image = cut(model.image, pairs.images(some))
    small = DualEncoder(model.config, image, model.text)
    small.load_state_dict({k: v for k, v in model.state_dict().items() if "logit" in k}, strict=False)
    report: dict[str, Any] = {"epochs": 0}
    if settings.recovery.epochs or settings.recovery.min_steps:
        report = _train(
            *(recipe, splits, small, tokenizer, None, settings.recovery, work, "recover", progress),
            pairs=pairs,
            objective=BlocksObjective(small, reparameterize(model.image)),
        )
    return small, tokenizer, pairs, {"before": _shape(model), "after": _shape(small), **report}


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
    """Train ``student`` in place on the embeddings of the model in ``source``, which shares its tokenizer.

    Where the recipe names a reinforced set, or the data has a cached teacher's embeddings, on those.
    """
    tokenizer = read_tokenizer(source)
    if recipe.stages.distill.reinforced:
        rows = _rows(splits.train, training, recipe.seed)
        data = splits.train.take(rows)
        store = ReinforcedStore.open(recipe.stages.distill.reinforced, data=fingerprint(splits.train))
        pairs = ReinforcedPairs(data, store, student.config, reader(tokenizer, student.config), rows)
        said = StoreTargets(data, store, rows)
        return _train(recipe, splits, student, tokenizer, said, training, work, label, progress, pairs=pairs)
    targets = _cached(splits.train, training, recipe.seed, student)
    if targets is None:
        data = _limited(splits.train, training, recipe.seed)
        targets = _answers(source, data, bf16_pays(recipe), work.parent / "answers" / source.parent.name, progress)
    return _train(recipe, splits, student, tokenizer, targets, training, work, label, progress)


def _follow_apart(
    recipe: Recipe,
    splits: Splits,
    student: DualEncoder,
    source: Path,
    training: Training,
    work: Path,
    label: str,
    progress: Progress,
) -> dict[str, Any]:
    """As :func:`follow`, tower by tower: the text tower trained on captions, the image tower's projection fitted."""
    settings, data = recipe.stages.distill, _limited(splits.train, training, recipe.seed)
    if data.targets is not None or settings.reinforced or "text" not in student.towers:
        found = "a cached teacher or a reinforced set" if "text" in student.towers else "no text tower"
        raise RecipeError("stages.distill.train", found=f"text, with {found}", expected="a teacher of texts to follow")
    if not (settings.pair_losses.feature_cosine or settings.pair_losses.feature_mse):
        raise RecipeError("stages.distill.pair_losses", found="no feature loss", expected="one, as train is text")
    read = reader(read_tokenizer(source), student.config)
    own, held = (make_pairs(part, student.config, read, progress) for part in (data, splits.validation))
    cache = work.parent / "answers" / source.parent.name
    said, wanted = (_answers(source, part, bf16_pays(recipe), cache, progress) for part in (data, splits.validation))
    assert wanted.texts is not None, "of a live teacher"
    probe = fit_probe(student, own, held, said.images, wanted.images, False, progress, near=True)
    objective = TextObjective(student, settings.pair_losses, said)
    validate = partial(text_cosine, pairs=held, wanted=wanted.texts)
    config = loop_config(recipe, training)
    report = train(objective, Captions(own), config, validate, work / "checkpoints", label, progress)
    report = {"losses": objective.terms(), "probe": probe, **report}
    if settings.heads:
        report["heads"] = _tune_heads(recipe, splits, student, source, work, progress)
    student.requires_grad_(True)
    return report


def _tune_heads(
    recipe: Recipe, splits: Splits, student: DualEncoder, source: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Train both projections of ``student`` by the losses that compare pictures with captions; not where it loses.

    ``before`` and ``after``: recall on the validation part.
    """
    training, held, read = recipe.stages.teach, splits.validation, reader(read_tokenizer(source), student.config)
    data = _limited(splits.train, training, recipe.seed)
    said = _answers(source, data, bf16_pays(recipe), work.parent / "answers" / source.parent.name, progress)
    across = recipe.stages.distill.pair_losses.model_copy(update={"feature_cosine": 0.0, "feature_mse": 0.0})
    given, seen = (
        features(student, make_pairs(part, student.config, read, progress), progress) for part in (data, held)
    )
    kept = heads_of(student)

    def found(model: DualEncoder) -> float:
        return recall(answered(*seen.embed(model), held), held).value

    before, config = found(student), loop_config(recipe, training)
    report = tune(HeadsObjective(student, across, said, given), given, config, found, work / "heads", "heads", progress)
    after = found(student)
    if after <= before:
        student.load_state_dict(kept, strict=False)
        progress.say(f"heads: {after:.4f} on validation, {before:.4f} before: undone")
    return {**report, "before": round(before, 6), "after": round(after, 6), "kept": after > before}


def _answers(source: Path, data: PictureTextSet, bf16: bool, cache: Path, progress: Progress) -> Targets:
    """What the model in ``source`` says of ``data``, worked out once for all stages that follow it."""
    teacher, tokenizer = load(source)
    path = cache / f"{fingerprint(data)}-{'bf16' if bf16 else 'fp32'}.npz"
    if not path.is_file():
        pairs = make_pairs(data, teacher.config, reader(tokenizer, teacher.config), progress)
        images, texts = embed(teacher, pairs, progress, bf16)
        cache.mkdir(parents=True, exist_ok=True)
        partial = cache / f"{os.getpid()}.partial.npz"
        np.savez(partial, images=images, texts=texts)
        os.replace(partial, path)
    with np.load(path, allow_pickle=False) as kept:
        return Targets(kept["images"], kept["texts"], float(teacher.scale().detach()))


def parameters(model: torch.nn.Module) -> int:
    """Numbers that the model holds."""
    return sum(p.numel() for p in model.parameters())


def _train(
    recipe: Recipe,
    splits: Splits,
    model: DualEncoder,
    tokenizer: Tokenizer,
    targets: Answers | None,
    training: Training,
    work: Path,
    label: str,
    progress: Progress,
    heads: bool = False,
    pairs: Data | None = None,
    objective: PairObjective | None = None,
) -> dict[str, Any]:
    """Train ``model`` in place. ``heads``: its projections alone, on what its locked towers give.

    ``pairs``: what to train on, else the training part as it is. ``objective``: for what, else the recipe's losses.
    """
    weights = recipe.stages.distill.pair_losses
    read = reader(tokenizer, model.config)
    held = make_pairs(splits.validation, model.config, read, progress)
    if heads:
        own = make_pairs(_limited(splits.train, training, recipe.seed), model.config, read, progress)
        given, seen = features(model, own, progress), features(model, held, progress)
        objective = HeadsObjective(model, weights, targets, given)
        give: Callable[[DualEncoder], Embeddings] = seen.embed
        pairs = given
    else:
        give = partial(embed, pairs=held)
        objective = objective or PairObjective(model, weights, targets)
        if pairs is None:
            data = _limited(splits.train, training, recipe.seed)
            pairs = make_pairs(data, model.config, read, progress, training.augment)

    def validate(student: DualEncoder) -> float:
        found = recall(answered(*give(student), splits.validation), splits.validation)
        return float(found.details.get(PLAIN, found.value))  # a cached teacher is followed, whatever it finds

    config = loop_config(recipe, training)
    report = train(objective, pairs, config, validate, work / "checkpoints", label, progress)
    return {"losses": objective.terms(), **report}


def _probe(
    recipe: Recipe, splits: Splits, model: DualEncoder, tokenizer: Tokenizer, targets: Targets, progress: Progress
) -> dict[str, Any]:
    """The projection of ``model`` by regression: there is but one best one, and no need to walk there."""
    training, read = recipe.stages.teach, reader(tokenizer, model.config)
    data = _limited(splits.train, training, recipe.seed)
    pairs = [make_pairs(part, model.config, read, progress) for part in (data, splits.validation)]
    wanted = splits.validation.targets
    assert wanted is not None, "all parts have them or none"
    return fit_probe(model, pairs[0], pairs[1], targets.images, wanted, training.augment.flip > 0, progress)


def _cached(data: PictureTextSet, training: Training, seed: int, model: DualEncoder) -> Targets | None:
    """What the data's cached teacher says of the training pictures. RecipeError for embeddings of another length."""
    targets = _limited(data, training, seed).targets
    if targets is None:
        return None
    if targets.shape[1] != model.config.embed_dim:
        found = f"embeddings of {targets.shape[1]} numbers"
        raise RecipeError(
            "data.train.embeddings", found=found, expected=f"{model.config.embed_dim}, the model's embed_dim"
        )
    return Targets(targets, None, CLIP_SCALE)


def _limited(data: PictureTextSet, training: Training, seed: int) -> PictureTextSet:
    if training.max_examples is None or training.max_examples >= len(data):
        return data
    return data.take(_rows(data, training, seed))


def _rows(data: PictureTextSet, training: Training, seed: int) -> NDArray[np.int64]:
    """Rows of the pictures that a stage trains on, drawn by the seed."""
    return np.sort(np.random.default_rng(seed).permutation(len(data))[: training.max_examples])


def _given(recipe: Recipe) -> tuple[DualEncoder, Tokenizer, str]:
    folder = resolve(recipe.model)
    digest = sha256_file(weights_file(folder))
    if recipe.model_sha256 and digest != recipe.model_sha256:
        raise ModelError(str(weights_file(folder)), found=f"sha256 {digest}", expected=recipe.model_sha256)
    model = DualEncoder.load(folder) if is_dual(folder) else import_dual(recipe.model)
    return model, read_tokenizer(folder), digest


def _towers(model: DualEncoder) -> str:
    return "both towers" if "text" in model.towers else "the image tower"


def _shape(model: DualEncoder) -> dict[str, Any]:
    image, text = model.config.image, model.config.text
    told = "none"
    if isinstance(text, TextConfig):
        told = f"{text.kind}, {len(text.heads)} layers, {parameters(model.text):,} parameters"
    elif isinstance(text, BertConfig):
        told = f"{text.kind}, {len(text.encoder['heads'])} layers, {parameters(model.text):,} parameters"
    return {
        "image_tower": f"{image.kind}, {image.image_size} px, {parameters(model.image):,} parameters",
        "text_tower": told,
        "parameters": parameters(model),
    }
