"""The stages, in their order, and what of the recipe each depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.compress.stage import Context, Stage, Work
from edgekit.recipe import Recipe


def stages_of(recipe: Recipe) -> list[Stage]:
    """All enabled stages of ``recipe``, first to last."""
    settings = recipe.stages
    shape = {"max_length": recipe.max_length, "stride": recipe.stride, "seed": recipe.seed, "task": recipe.task}
    training = {**shape, "bf16": recipe.bf16, "threads": recipe.threads}
    distill = settings.distill.model_dump()
    follow = {"losses": distill["losses"], "temperature": distill["temperature"], "limit": distill["max_examples"]}
    code = ("distill", "evaluate", "runtimes")
    stages = [
        Stage(
            "teach",
            "fine-tune the model that came in",
            _teach,
            {**training, "model": recipe.model, "sha256": recipe.model_sha256, "teach": _part(settings.teach)},
            code,
            settings.teach.gate,
            required=True,
            shared=True,
        ),
        Stage(
            "vocabulary",
            "cut the embedding table to the domain's pieces",
            _vocabulary,
            {**shape, "vocabulary": _part(settings.vocabulary)},
            code,
            settings.vocabulary.gate,
        ),
        Stage(
            "distill",
            "train a student of fewer layers",
            _distill,
            {**training, "student": recipe.student.model_dump(), "distill": _part(settings.distill)},
            code,
            settings.distill.gate,
            shared=True,
        ),
        Stage(
            "prune",
            "cut heads and neurons, recover by distillation",
            _prune,
            {**training, "prune": _part(settings.prune), "follow": follow},
            code,
            settings.prune.gate,
            shared=True,
        ),
        Stage(
            "export",
            "torch to ONNX",
            _export,
            {**shape, "export": _part(settings.export)},
            ("export", "distill"),
            settings.export.gate,
            required=True,
        ),
        Stage(
            "quantize",
            "INT8: the fastest candidate within the bound",
            _quantize,
            {
                **shape,
                "quantize": _part(settings.quantize),
                "bound": settings.quantize.gate.model_dump(),
                "latency_threads": recipe.latency_threads,
            },
            ("quantize", "export", "evaluate", "runtimes"),
            settings.quantize.gate,
        ),
    ]
    return [stage for stage in stages if recipe.enabled(stage.name) or stage.required]


def _part(settings: Any) -> dict[str, Any]:
    """A stage's settings without its gate: a new bound asks a new question of the same result."""
    found: dict[str, Any] = settings.model_dump(mode="json", exclude={"gate"})
    return found


def _source(work: Work) -> Path:
    assert work.source is not None, "only teach starts from nothing"
    return work.source


def _teach(work: Work) -> dict[str, Any]:
    from edgekit.distill.teach import teach

    context = work.context
    return teach(context.recipe, context.splits, work.out, work.scratch, context.progress)


def _vocabulary(work: Work) -> dict[str, Any]:
    from edgekit.distill.vocabulary import shrink_vocabulary

    context = work.context
    return shrink_vocabulary(context.recipe, context.splits, _source(work), work.out, context.progress)


def _distill(work: Work) -> dict[str, Any]:
    from edgekit.distill.student import distil

    context = work.context
    return distil(context.recipe, context.splits, _source(work), work.out, work.scratch, context.progress)


def _prune(work: Work) -> dict[str, Any]:
    from edgekit.distill.prune import prune

    context = work.context
    followed = context.followed or _source(work)
    return prune(context.recipe, context.splits, _source(work), followed, work.out, work.scratch, context.progress)


def _export(work: Work) -> dict[str, Any]:
    from edgekit.export import export_onnx

    context = work.context
    texts = context.splits.validation.texts[:32]
    report = export_onnx(_source(work), work.out, context.recipe.stages.export, texts)
    return dict(report.to_dict())


def _quantize(work: Work) -> dict[str, Any]:
    from edgekit.compress.judge import judge_for
    from edgekit.quantize import quantize

    context = work.context
    config = context.recipe.stages.quantize
    calibration = context.splits.train.texts[: config.calibration_examples]
    pairless = context.recipe.task == "embed" and context.splits.validation.pairs is None
    report = quantize(
        _source(work),
        work.out,
        config,
        calibration,
        judge_for(context, _source(work)),
        seed=context.recipe.seed,
        threads=context.recipe.latency_threads,
        progress=context.progress,
        bound=config.gate.max_cosine_drop if pairless else config.gate.max_drop,
    )
    return dict(report.to_dict())


def follow_after(context: Context, stage: str, folder: Path) -> None:
    """Remember the models that later stages are held against or learn from."""
    if stage == "teach":
        context.teacher = context.followed = folder
    elif stage == "vocabulary":
        context.followed = folder
