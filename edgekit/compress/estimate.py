"""What a run will cost, before it runs: a few real training steps are timed, the rest is counted."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from edgekit.compress.cache import StageCache, key_of
from edgekit.compress.pipeline import source_key, stage_key
from edgekit.compress.prepare import prepare
from edgekit.compress.stage import Context
from edgekit.compress.stages import follow_after, stages_of
from edgekit.data import TextSet
from edgekit.distill import families
from edgekit.distill.foreign import is_foreign_source
from edgekit.progress import Progress
from edgekit.recipe import Recipe
from edgekit.recipe.training import Training

_PROBED_STEPS = 3
_TRAINED = ("teach", "distill", "prune", "qat")
# As seen on 2 cores for a student of 3 layers.
_FIXED_S = {"vocabulary": 5.0, "truncate": 1.0, "export": 10.0, "quantize": 60.0}
_GATE_S = 30.0  # as seen: answers to the held-out parts and timing in turns


def estimate(recipe: Recipe, cache_dir: Path | None, progress: Progress) -> list[dict[str, Any]]:
    """One row a stage; see :func:`edgekit.compress.plan`."""
    context, cache, fingerprint = prepare(recipe, cache_dir, progress)
    cached = _cached(context, cache, fingerprint)
    stages = stages_of(recipe)
    trained = [stage.name for stage in stages if stage.name in _TRAINED and recipe.enabled(stage.name)]
    untold = recipe.task == families.DUAL or is_foreign_source(recipe.model)
    rate = None if untold or all(cached.get(name) for name in trained) else _steps_a_second(context)
    rows = []
    for stage in stages:
        known = cached.get(stage.name, False)
        seconds, basis = (0.0, "finished before") if known else _cost(stage.name, context, rate)
        rows.append(
            {
                "stage": stage.name,
                "what": stage.what,
                "estimate_s": None if seconds is None else round(seconds + (0.0 if known else _GATE_S)),
                "basis": basis,
                "cached": known,
            }
        )
    return rows


def _cached(context: Context, cache: StageCache, fingerprint: str) -> dict[str, bool]:
    """Which stages are finished, as far as it can be told: one that is not hides what starts from it."""
    found: dict[str, bool] = {}
    begun = key_of(model=fingerprint)
    kept: dict[str, str] = {}
    for stage in stages_of(context.recipe):
        if stage.start and stage.start not in kept:
            continue
        key = stage_key(stage, context, source_key(stage, context, kept, begun), kept)
        found[stage.name] = cache.has(key)
        gates = list(cache.folder(key).glob("gate-*.json"))
        if gates and '"kept": true' in gates[0].read_text("utf-8"):
            kept[stage.name] = key
            follow_after(context, stage, cache.model(key))
        elif stage.start is None and not gates:
            break  # what stands on it has no key yet
    return found


def _cost(name: str, context: Context, rate: tuple[float, int] | None) -> tuple[float | None, str]:
    recipe = context.recipe
    kind = name.split("-")[0]
    if recipe.task == families.DUAL and kind in (*_TRAINED, "truncate"):
        return None, "not known: towers are not timed beforehand"
    if kind in _FIXED_S:
        return _FIXED_S[kind], "estimate: as seen on a 2-core x86-64 machine for a student of 3 layers"
    part = getattr(recipe.stages, name)
    training: Training = part.recovery if name == "prune" else part
    if rate is None or (name == "teach" and recipe.task == "embed"):
        return 0.0, "estimate: nothing is trained"
    limits = [training.max_examples, recipe.stages.distill.max_examples if name in ("prune", "qat") else None]
    texts = min([len(context.splits.train), *(limit for limit in limits if limit)])
    a_second, layers = rate
    share = 1.0
    if name != "teach":
        share = (recipe.student_layers or math.ceil(layers / 2)) / layers
    from edgekit.distill.loop import epochs_for
    from edgekit.distill.settings import loop_config

    epochs = epochs_for(texts, loop_config(recipe, training)) if training.epochs or training.min_steps else 0
    seen = texts * (epochs * share + (1 / 3 if name == "distill" else 0))  # a teacher's answer: a third of a step
    return seen / a_second, f"estimate: {epochs} epochs of {texts} texts, from {_PROBED_STEPS} steps timed here"


def _steps_a_second(context: Context) -> tuple[float, int]:
    """Texts a second that the whole teacher trains here, from a few real steps; and its number of layers."""
    import torch

    from edgekit.distill.batches import collate, epoch, tokenize
    from edgekit.distill.convert import import_model
    from edgekit.distill.settings import bf16_pays, loop_config

    recipe, train = context.recipe, context.splits.train
    assert isinstance(train, TextSet)
    model = import_model(recipe.model, recipe.task, max_length=recipe.max_length, stride=recipe.stride)
    config = loop_config(recipe, recipe.stages.teach)
    torch.set_num_threads(config.threads)
    data = train.take(range(min(len(train), config.batch_size * 50)))
    tokens = tokenize(model.tokenizer, data, recipe.max_length, model.encoder.config.pad_token_id)
    optimizer = torch.optim.AdamW(model.encoder.parameters(), lr=0.0, fused=True)
    batches = (epoch(tokens, config.batch_size, recipe.seed, 0) * (_PROBED_STEPS + 1))[: _PROBED_STEPS + 1]
    began, seen = 0.0, 0
    for number, index in enumerate(batches):
        if number == 1:  # the first step warms up
            began = time.perf_counter()
        batch = collate(tokens, index)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays(recipe)):
            loss = model.encoder.states(batch.input_ids, batch.attention_mask).hidden[-1].float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += len(index) if number else 0
    return seen / (time.perf_counter() - began), model.encoder.config.layers
