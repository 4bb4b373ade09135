"""The pipeline: stages, their cache, and the gate that each must pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle.records import StageRecord
from edgekit.compress.device import Device
from edgekit.errors import InputError
from edgekit.progress import Progress, Silent
from edgekit.recipe import Recipe

__all__ = ["CompressResult", "compress", "plan"]


@dataclass(frozen=True)
class CompressResult:
    """What a run left. ``bundle`` and ``report`` are paths; ``budget`` has one row a bound of the recipe."""

    bundle: Path
    budget_met: bool
    budget: list[dict[str, Any]]
    stages: list[StageRecord]
    report: Path
    teacher: dict[str, Any]


def compress(
    recipe: Recipe,
    output: Path,
    overwrite: bool = False,
    progress: Progress | None = None,
    cache_dir: Path | None = None,
    device: Device | None = None,
) -> CompressResult:
    """Take ``recipe.model`` through all stages and write the bundle ``output`` and its report beside it.

    Finished stages are taken from the cache (``cache_dir``, else :func:`edgekit.cache.cache_dir`). ``device``: a board
    whose times decide which INT8 candidate is taken, and at gates and in the budget. Raises InputError
    and its kinds for bad input, StageError when a required stage fails; nothing half-written is left.
    """
    from edgekit.compress import ranks
    from edgekit.compress.pack import write_bundle
    from edgekit.compress.pipeline import run_stages, teacher_summary
    from edgekit.compress.prepare import prepare
    from edgekit.compress.stages import stages_of
    from edgekit.report import write as write_report

    if output.exists() and not overwrite:
        raise InputError(f"{output}", found="it exists", expected="a new path", fix="Add --overwrite to replace it.")
    context, cache, fingerprint = prepare(recipe, cache_dir, progress or Silent())
    context.device = device
    outcome = run_stages(context, stages_of(recipe, device.name if device else ""), cache, fingerprint)
    assert context.teacher is not None
    teacher = teacher_summary(outcome.records, recipe.model, context.teacher)
    if ranks.is_first():
        output.parent.mkdir(parents=True, exist_ok=True)
        write_bundle(context, output, outcome.records, teacher, overwrite)
        cache.sweep(outcome.keys)
    ranks.wait()
    from edgekit.bundle import open_bundle

    manifest = open_bundle(output).manifest
    report = write_report(output, output.parent) if ranks.is_first() else output.with_suffix(".report.html")
    return CompressResult(
        output, bool(manifest.budget["met"]), manifest.budget["bounds"], manifest.stages, report, manifest.teacher
    )


def plan(recipe: Recipe, cache_dir: Path | None = None, progress: Progress | None = None) -> list[dict[str, Any]]:
    """What each stage of ``recipe`` will do and about how long it will take here, without doing it.

    Each row: ``stage``, ``what``, ``estimate_s`` (None where nothing is known), ``basis`` of the estimate, ``cached``.
    """
    from edgekit.compress.estimate import estimate

    return estimate(recipe, cache_dir, progress or Silent())
