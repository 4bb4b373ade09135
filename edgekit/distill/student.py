"""Distillation: a student with fewer layers learns to answer like its teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.data import Splits
from edgekit.distill import losses
from edgekit.distill.answers import Answers, Wanted, answers_key, compute, open_answers
from edgekit.distill.batches import IGNORED, Batch, Tokens, tokenize
from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.distill.folder import load, save, weights_sha256
from edgekit.distill.loop import Objective, train
from edgekit.distill.settings import bf16_pays, loop_config
from edgekit.distill.validate import validator
from edgekit.errors import RecipeError
from edgekit.progress import Progress
from edgekit.recipe import Recipe
from edgekit.recipe.stages import DistillConfig
from edgekit.recipe.training import LossWeights, Training


class DistillObjective(Objective):
    """The weighted sum of the recipe's losses against cached teacher answers.

    Of a student with exits the losses of the answers are added up over all exits, as Schwartz et al. 2020 train
    theirs; here each follows the teacher, as in DynaBERT (Hou et al. 2020), and not labels alone.
    Losses of hidden states and attention are the full depth's: an exit's layers serve those above them too.
    """

    student: Encoder

    def __init__(self, student: Encoder, answers: Answers, config: DistillConfig, teacher_layers: int) -> None:
        super().__init__()
        self.student = student
        self.answers, self.weights, self.temperature = answers, config.losses, config.temperature
        self.layer_map = layer_map(student.config.layers, teacher_layers)
        self.last = teacher_layers
        student.layer_drop = config.layer_drop

    def forward(self, batch: Batch) -> Tensor:
        states = self.student.states(batch.input_ids, batch.attention_mask)
        device, weights, mask = states.output.device, self.weights, batch.attention_mask
        exits = self.student.exit_outputs(states, mask)
        total = sum((self._answer_loss(one, batch) for one in exits), self._answer_loss(states.output, batch))
        if weights.hidden_cosine:
            target = self.answers.hidden(self.last, batch).to(device)
            total = total + weights.hidden_cosine * losses.hidden_cosine(states.hidden[-1], target, mask)
        if weights.hidden_mse:
            for ours, theirs in enumerate((0, *self.layer_map)):
                target = self.answers.hidden(theirs, batch).to(device)
                total = total + weights.hidden_mse * losses.hidden_mse(states.hidden[ours], target, mask)
        if weights.attention:
            for ours, theirs in enumerate(self.layer_map):
                q, k, _ = self.answers.qkv(theirs, batch)
                ours_qk = states.qkv[ours][:2]
                total = total + weights.attention * losses.attention_mse(ours_qk, (q.to(device), k.to(device)), mask)
        if weights.relations:
            target_qkv = tuple(x.to(device) for x in self.answers.qkv(self.last, batch))
            total = total + weights.relations * losses.relations(states.qkv[-1], target_qkv, mask)
        return total

    def _answer_loss(self, answer: Tensor, batch: Batch) -> Tensor:
        weights = self.weights
        target = self.answers.outputs(batch).to(answer.device)
        total = answer.new_zeros((), dtype=torch.float32)
        if self.student.config.task == "embed":
            total = total + weights.embedding_mse * losses.embedding_mse(answer, target)
            return total + weights.embedding_cosine * losses.embedding_cosine(answer, target)
        labels = batch.labels
        if self.student.config.task == "tag":
            known = batch.attention_mask.bool() if labels is None else labels != IGNORED
            answer, target = answer[known], target[known]
            labels = None if labels is None else labels[known]
        if weights.soft:
            total = total + weights.soft * losses.soft_targets(answer, target, self.temperature)
        if weights.hard and labels is not None:
            total = total + weights.hard * F.cross_entropy(answer.float(), labels)
        return total


def layer_map(student: int, teacher: int) -> list[int]:
    """The teacher layer (1-based) that each student layer answers to: evenly, last to last. TinyBERT, section 3."""
    return [max(1, round((i + 1) * teacher / student)) for i in range(student)]


def initial_layers(student: int, teacher: int, how: str) -> list[int]:
    """Teacher layers (0-based) that the student starts from; spread keeps the first and the last, as DistilBERT did."""
    if how == "first":
        return list(range(student))
    if how == "last":
        return list(range(teacher - student, teacher))
    return [int(i) for i in np.floor(np.linspace(0, teacher - 1, student) + 0.5)]


def _wanted(weights: LossWeights, student: int, teacher: int) -> Wanted:
    mapped = layer_map(student, teacher)
    hidden = ({0, *mapped} if weights.hidden_mse else set()) | ({teacher} if weights.hidden_cosine else set())
    qkv = (set(mapped) if weights.attention else set()) | ({teacher} if weights.relations else set())
    return Wanted(tuple(sorted(hidden)), tuple(sorted(qkv)))


def cut_layers(teacher: Encoder, keep: list[int]) -> Encoder:
    """A copy of ``teacher`` with the layers in ``keep``, weights and head included."""
    config = EncoderConfig.from_dict(teacher.config.to_dict())
    config.heads = [teacher.config.heads[i] for i in keep]
    config.ffn = [teacher.config.ffn[i] for i in keep]
    config.exits = []  # their depths are the teacher's
    student = Encoder(config)
    state = {k: v for k, v in teacher.state_dict().items() if not k.startswith(("layers.", "exits."))}
    for ours, theirs in enumerate(keep):
        state |= {f"layers.{ours}.{k}": v for k, v in teacher.layers[theirs].state_dict().items()}
    student.load_state_dict(state)
    return student


def with_exits(encoder: Encoder, depths: list[int]) -> Encoder:
    """``encoder`` with an exit at each of ``depths``, whose pooler and classifier start as copies of its own."""
    if not depths:
        return encoder
    config = EncoderConfig.from_dict({**encoder.config.to_dict(), "exits": depths})
    found = Encoder(config)
    state = dict(encoder.state_dict())
    own = {name: one for name, one in state.items() if name.startswith(("head.", "classifier."))}
    found.load_state_dict(state | {f"exits.{depth}.{name}": one for depth in depths for name, one in own.items()})
    return found


def truncate(recipe: Recipe, depth: int, source: Path, out: Path) -> dict[str, Any]:
    """Write the rung of ``depth`` layers of the ladder that ``source`` holds to ``out``: an encoder like any other."""
    encoder, tokenizer = load(source)
    save(encoder.truncate(depth), tokenizer, out)
    return {"layers": depth, "of": encoder.config.layers, "ladder": list(recipe.ladder)}


def distil(recipe: Recipe, splits: Splits, source: Path, out: Path, work: Path, progress: Progress) -> dict[str, Any]:
    """Train a student of the model in ``source`` and write it to ``out``; ``work`` keeps answers and checkpoints."""
    teacher, tokenizer = load(source)
    layers = recipe.student_layers or -(-teacher.config.layers // 2)
    if layers > teacher.config.layers:
        where = "ladder" if recipe.ladder else "student.layers"
        raise RecipeError(where, found=layers, expected=f"at most the teacher's {teacher.config.layers}")
    keep = initial_layers(layers, teacher.config.layers, recipe.student.initialise)
    student = with_exits(cut_layers(teacher, keep), recipe.ladder[1:])
    report = follow(recipe, splits, student, source, recipe.stages.distill, work, "distill", progress)
    save(student, tokenizer, out)
    return {"initialised_from_layers": keep, **report}


def follow(
    recipe: Recipe,
    splits: Splits,
    student: Encoder,
    source: Path,
    training: Training,
    work: Path,
    label: str,
    progress: Progress,
) -> dict[str, Any]:
    """Train ``student`` in place on the answers of the model in ``source``, which shares its tokenizer.

    The teacher's answers are cached beside ``work``, one copy for all stages that follow the same ``source``.
    """
    teacher, tokenizer = load(source)
    config = recipe.stages.distill
    data = splits.train
    limit = min(training.max_examples or len(data), config.max_examples or len(data))
    if limit < len(data):
        data = data.take(np.sort(np.random.default_rng(recipe.seed).permutation(len(data))[:limit]))
    tokens = tokenize(tokenizer, data, teacher.config.max_tokens, teacher.config.pad_token_id)
    answers = _answers(
        recipe, teacher, source, tokens, student.config.layers, work.parent / "answers" / source.parent.name, progress
    )
    report = train(
        DistillObjective(student, answers, config, teacher.config.layers),
        tokens,
        loop_config(recipe, training),
        _every_depth(validator(tokenizer, splits.validation, student, teacher)),
        work / "checkpoints",
        label,
        progress,
    )
    return {"losses": {k: v for k, v in config.losses.model_dump().items() if v}, **report}


def _every_depth(validate: Callable[[Encoder], float]) -> Callable[[Encoder], float]:
    """The mean of what ``validate`` says of all depths that a model answers at."""

    def mean(model: Encoder) -> float:
        rungs = [model.truncate(depth) for depth in model.config.exits]
        return float(np.mean([validate(one) for one in (model, *rungs)]))

    return mean


def _answers(
    recipe: Recipe, teacher: Encoder, source: Path, tokens: Tokens, layers: int, cache: Path, progress: Progress
) -> Answers:
    from accelerate import PartialState

    wanted = _wanted(recipe.stages.distill.losses, layers, teacher.config.layers)
    bf16 = bf16_pays(recipe)
    folder = cache / answers_key(weights_sha256(source), tokens, wanted, bf16)
    state = PartialState(cpu=not torch.cuda.is_available())
    if state.is_main_process:
        torch.set_num_threads(loop_config(recipe, recipe.stages.distill).threads)
        compute(teacher.to(state.device), tokens, wanted, folder, bf16, progress)
        teacher.cpu()
    state.wait_for_everyone()
    return open_answers(folder, teacher, tokens)
