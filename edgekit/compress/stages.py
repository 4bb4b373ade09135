"""The stages, in their order, and what of the recipe each depends on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.compress.device import Device
from edgekit.compress.stage import Context, Stage, Work
from edgekit.distill import families
from edgekit.distill.foreign import is_foreign
from edgekit.errors import RecipeError
from edgekit.evaluate import metric_name
from edgekit.recipe import Recipe
from edgekit.recipe.schema import NEW
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes import artifact

EXAMPLES = 32  # of the validation part, that an exported file is compared with torch on
FORMATS = {
    "onnxruntime": "ONNX",
    "openvino": "OpenVINO IR",
    "litert": "TFLite",
    "tflite-runtime": "TFLite, old operators",
}


def stages_of(recipe: Recipe, device: str = "") -> list[Stage]:
    """All enabled stages of ``recipe``, first to last; ``device``: the name of what candidates are timed on."""
    settings = recipe.stages
    shape = {"max_length": recipe.max_length, "stride": recipe.stride, "seed": recipe.seed, "task": recipe.task}
    training = {**shape, "bf16": recipe.bf16, "threads": recipe.threads}
    distill = settings.distill.model_dump()
    losses = distill["pair_losses" if recipe.task == families.DUAL else "losses"]
    follow = {"losses": losses, "temperature": distill["temperature"], "limit": distill["max_examples"]}
    follow["reinforced"], follow["layer_drop"] = distill["reinforced"], distill["layer_drop"]
    code = ("distill", "evaluate", "runtimes")
    stages = [
        Stage(
            "teach",
            "fine-tune the model that came in",
            _teach,
            {
                **training,
                "model": recipe.model,
                "sha256": recipe.model_sha256,
                "teach": _part(settings.teach),
                "shape": recipe.teacher.model_dump() if recipe.model == NEW else None,
            },
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
            {
                **training,
                "student": recipe.student.model_dump(),
                "distill": _part(settings.distill),
                "ladder": recipe.exits,
            },
            code,
            settings.distill.gate,
            required=bool(recipe.exits),  # its rungs are what pays
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
            "qat",
            "train under INT8 rounding, by distillation",
            _qat,
            {**training, "qat": _part(settings.qat), "follow": follow, "towers": _part(settings.quantize.towers)},
            code,
            settings.qat.gate,
            shared=True,
        ),
    ]
    without = families.left_out(recipe)
    if recipe.ladder and "distill" in without:
        raise RecipeError(
            "ladder", found=recipe.ladder, expected="a BERT, DistilBERT or RoBERTa, whose students are trained here"
        )
    stages = [s for s in stages if (recipe.enabled(s.name) or s.required) and s.name not in without]
    stages += _rungs(recipe, {**training, "truncate": _part(settings.truncate)}, code)
    for rung in ["", *map(str, recipe.ladder[1:])]:
        stages += _engine_stages(recipe, shape, {"device": device} if device else {}, rung)
    return stages


def file_stage(engine: str, precision: str, rung: str = "") -> str:
    """The stage whose result is the file of ``engine`` in ``precision``; onnxruntime and w8a8 go without saying.

    ``rung``: of a ladder's lower rung, its name.
    """
    parts = ["export" if precision == "fp32" else "quantize"]
    parts += [engine] if engine != "onnxruntime" else []
    parts += [precision] if precision not in ("fp32", "w8a8") else []
    return "-".join([*parts, rung] if rung else parts)


def rung_stage(depth: int | str) -> str:
    """The stage whose result is a ladder's rung ``depth``, in torch."""
    return f"truncate-{depth}"


def _rungs(recipe: Recipe, part: dict[str, Any], code: tuple[str, ...]) -> list[Stage]:
    """The rungs of a ladder cut out of its student: branches, but for the whole, which is the model from then on.

    The whole student is a rung already where it has no exits.
    """
    whole = recipe.ladder[:1]
    return [
        Stage(
            rung_stage(depth),
            "the whole depth of the ladder's student" if depth in whole else "a smaller part of the student, as a rung",
            partial(_truncate, depth),
            {**part, "depth": depth, "ladder": recipe.exits},
            code,
            recipe.stages.truncate.gate,
            required=depth in whole,
            shared=True,
            start=None if depth in whole else "",
        )
        for depth in reversed(recipe.ladder)
        if recipe.exits or depth not in whole
    ]


def _engine_stages(recipe: Recipe, shape: dict[str, Any], timed: dict[str, Any], rung: str) -> list[Stage]:
    """Export and quantize for each engine. ONNX is always made: OpenVINO may be converted from it.

    ``rung``: a ladder's lower rung, whose stages go on from its torch model; "" is the model itself. A lower rung may
    take over what the first one's file of that engine and precision has in common with it.
    """
    settings = recipe.stages
    stages = []
    for engine in dict.fromkeys(["onnxruntime", *recipe.engines]):
        export = file_stage(engine, "fp32", rung)
        part = {**shape, "export": _part(settings.export), "engine": engine}
        if engine in ("litert", "tflite-runtime"):
            part["lengths"] = recipe.buckets()
        stages.append(
            Stage(
                export,
                f"torch to {FORMATS[engine]}",
                partial(_export, engine, rung),
                part,
                ("export", "distill"),
                settings.export.gate,
                required=engine == "onnxruntime",
                start=rung_stage(rung) if rung else "",
            )
        )
        if engine not in recipe.engines or not settings.quantize.enabled:
            continue
        for precision in recipe.precision:
            if precision == "fp32":
                continue
            slowest = recipe.min_speed(settings.quantize.gate, precision)
            gate = settings.quantize.gate.model_copy(update={"min_speed": slowest})
            stages.append(
                Stage(
                    file_stage(engine, precision, rung),
                    f"{precision} for {engine}: the fastest candidate within the bound",
                    partial(_quantize, precision, rung),
                    {
                        **part,
                        **timed,
                        "precision": precision,
                        "candidates": settings.quantize.tried(engine, precision),
                        "quantize": _quantize_part(settings.quantize),
                        "bound": gate.model_dump(),
                        "latency_threads": recipe.latency_threads,
                    },
                    ("quantize", "export", "evaluate", "runtimes", "data"),
                    gate,
                    start=export,
                    beside=file_stage(engine, precision) if rung else "",
                )
            )
    return stages


def _quantize_part(settings: QuantizeConfig) -> dict[str, Any]:
    """Without the lists of candidates: one engine's list is no matter of another's."""
    return {key: value for key, value in _part(settings).items() if not key.endswith("candidates")}


def _part(settings: Any) -> dict[str, Any]:
    """A stage's settings without its gate: a new bound asks a new question of the same result."""
    found: dict[str, Any] = settings.model_dump(mode="json", exclude={"gate"})
    return found


def _source(work: Work) -> Path:
    assert work.source is not None, "only teach starts from nothing"
    return work.source


def _teach(work: Work) -> dict[str, Any]:
    context = work.context
    return families.teach(context.recipe, context.splits, work.out, work.scratch, context.progress)


def _vocabulary(work: Work) -> dict[str, Any]:
    context = work.context
    return families.vocabulary(context.recipe, context.splits, _source(work), work.out, context.progress)


def _distill(work: Work) -> dict[str, Any]:
    context = work.context
    return families.distil(context.recipe, context.splits, _source(work), work.out, work.scratch, context.progress)


def _prune(work: Work) -> dict[str, Any]:
    return _recovered(families.prune, work)


def _qat(work: Work) -> dict[str, Any]:
    return _recovered(families.qat, work)


def _recovered(run: Callable[..., dict[str, Any]], work: Work) -> dict[str, Any]:
    """A stage that changes a model and lets it follow the teacher again."""
    context, source = work.context, _source(work)
    followed = context.followed or source
    return run(context.recipe, context.splits, source, followed, work.out, work.scratch, context.progress)


def _truncate(depth: int, work: Work) -> dict[str, Any]:
    context = work.context
    splits, source = context.splits, _source(work)
    return families.truncate(context.recipe, splits, depth, source, work.out, work.scratch, context.progress)


def _export(engine: str, rung: str, work: Work) -> dict[str, Any]:
    context = work.context
    config, source = context.recipe.stages.export, _source(work)
    examples = context.splits.validation.spread(EXAMPLES)
    if engine == "onnxruntime" and is_foreign(source):
        from edgekit.export.optimum import export_optimum

        return export_optimum(source, work.out, config, examples, context.progress).to_dict()
    if engine == "onnxruntime":
        from edgekit.export import export_onnx

        return export_onnx(source, work.out, config, examples, context.progress).to_dict()
    if engine == "openvino":
        from edgekit.export.openvino import export_openvino

        plain = context.kept[file_stage("onnxruntime", "fp32", rung)]
        return export_openvino(source, plain, work.out, config, examples, context.progress).to_dict()
    from edgekit.export.litert import export_litert

    lengths = context.recipe.buckets()
    return export_litert(source, work.out, config, lengths, examples, context.progress, engine).to_dict()


def _quantize(precision: str, rung: str, work: Work) -> dict[str, Any]:
    from edgekit.compress.judge import judge_for
    from edgekit.quantize import quantize

    context = work.context
    torch = context.kept[rung_stage(rung)] if rung else context.torch
    assert torch is not None, "export comes before"
    config = context.recipe.stages.quantize
    calibration = context.splits.train.sample(config.calibration_examples, context.recipe.seed)
    pairless = metric_name(context.recipe.task, context.splits.validation) == "cosine_to_teacher"
    report = quantize(
        _source(work),
        torch,
        work.out,
        config,
        calibration,
        judge_for(context, _source(work)),
        precision,
        seed=context.recipe.seed,
        threads=context.recipe.latency_threads,
        progress=context.progress,
        bound=config.gate.max_cosine_drop if pairless else config.gate.max_drop,
        min_speed=context.recipe.min_speed(config.gate, precision),
        timer=None if context.device is None else partial(_on_device, context.device),
        first=context.kept.get(file_stage(artifact.read(_source(work)).engine, precision)) if rung else None,
    )
    return dict(report.to_dict())


def _on_device(device: Device, folders: dict[str, Path], inputs: list[Any], threads: int) -> dict[str, Any]:
    return {name: one.samples_ms for name, one in device.time(folders, inputs, threads).items()}


def follow_after(context: Context, stage: Stage, folder: Path) -> None:
    """Remember the models that later stages are held against, learn from or start from."""
    if stage.name == "teach":
        context.teacher = context.followed = folder
    elif stage.name == "vocabulary":
        context.followed = folder
    if stage.start is None:
        context.torch = folder
    context.kept[stage.name] = folder
