"""``edgekit compress``: the pipeline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.device import device_of
from edgekit.cli.options import Format, FormatOption, SilenceOption
from edgekit.cli.output import emit, markdown, say, to_json
from edgekit.cli.progress import Shown, clock
from edgekit.cli.stages import STAGE_COLUMNS, stage_rows
from edgekit.errors import InputError, RecipeError

if TYPE_CHECKING:
    from edgekit.compress import CompressResult
    from edgekit.recipe import Recipe

BUDGET_MISSED = 3


def command(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A recipe (YAML) or a preset's name. Default: sentiment.")
    ] = None,
    model: Annotated[str | None, typer.Option("-m", "--model", help="Folder, hub id, or package:NAME.")] = None,
    data: Annotated[str | None, typer.Option("-d", "--data", help="Training data: file, folder or id.")] = None,
    test_data: Annotated[str | None, typer.Option("--test-data", help="Data to report on, never trained on.")] = None,
    task: Annotated[str | None, typer.Option("-t", "--task", help="classify, embed or tag.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Default: build/NAME.edge.")] = None,
    layers: Annotated[int | None, typer.Option("--layers", help="Layers of the student.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Epochs of distillation.")] = None,
    max_examples: Annotated[
        int | None, typer.Option("--max-examples", help="Train on this many examples at most.")
    ] = None,
    engines: Annotated[str | None, typer.Option("--engines", help="Engines, with commas between.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="fp32, w8a8, with commas between.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Such as acc>=-1pp,p95<=25ms,size<=12MB.")] = None,
    stages: Annotated[str | None, typer.Option("--stages", help="Run these stages only, with commas between.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Fixes every draw.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any field: stages.teach.epochs=1. Repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and what each stage will cost.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older bundle.")] = False,
    cache_dir: Annotated[Path | None, typer.Option("--cache-dir", help="Where finished stages are kept.")] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Times of this board decide: ssh://user@host, or a kept profile's name."),
    ] = None,
    directory: Annotated[str, typer.Option("--directory", help="With --device: edgekit's folder there.")] = "edgekit",
    wheels: Annotated[
        Path | None, typer.Option("--wheels", help="With --device: take the board's wheels from this folder.")
    ] = None,
    silence: SilenceOption = None,
    form: FormatOption = Format.table,
) -> int:
    """Distil, prune, quantize and pack a model.

    Prints what each stage did to accuracy, size and latency.

    Exit code 3: the bundle is there, and misses its budget.
    """
    from edgekit.compress import compress
    from edgekit.recipe import load_recipe

    given: dict[str, Any] = {
        "model": model,
        "task": task,
        "data.train": data,
        "data.test": test_data,
        "student.layers": layers,
        "stages.distill.epochs": epochs,
        "data.max_examples": max_examples,
        "engines": engines,
        "precision": precision,
        "budget": budget,
        "only_stages": stages,
        "seed": seed,
    }
    overrides = {key: value for key, value in given.items() if value is not None} | _settings(settings or [])
    resolved = load_recipe(recipe, overrides)
    if dry_run:
        return _dry_run(resolved, cache_dir, form)
    output = output or Path("build") / f"{resolved.name}.edge"
    if output.suffix != ".edge":
        raise InputError("--output", found=str(output), expected="a folder name that ends in .edge")
    with Shown() as progress, device_of(device, resolved, directory, wheels, silence, progress) as board:
        result = compress(resolved, output, overwrite, progress, cache_dir, board)
    return _show(resolved, result, form)


def _settings(pairs: list[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise RecipeError("--set", found=repr(pair), expected="KEY=VALUE, such as stages.teach.epochs=1")
        found[key.strip()] = value
    return found


def _dry_run(recipe: Recipe, cache_dir: Path | None, form: Format) -> int:
    from edgekit.compress import plan

    with Shown() as progress:
        rows = plan(recipe, cache_dir, progress)
    if form is Format.json:
        print(to_json({"schema_version": 1, "recipe": recipe.model_dump(mode="json"), "plan": rows}))
        return 0
    print(recipe.dump_yaml())  # the rest is comment, so that this output is a recipe itself
    for row in rows:
        print(f"# {row['stage']:<11} {_cost(row):<11} {row['what']} ({row['basis']})")
    known = [row["estimate_s"] for row in rows if row["estimate_s"] is not None and not row["cached"]]
    print(f"# about {clock(sum(known))} in all, where it is known" if known else "# nothing left to compute")
    return 0


def _cost(row: dict[str, Any]) -> str:
    if row["cached"]:
        return "cached"
    if row["estimate_s"] is None:
        return "not known"
    return f"about {clock(row['estimate_s'])}"


def _show(recipe: Recipe, result: CompressResult, form: Format) -> int:
    if os.environ.get("RANK", "0") != "0":
        return 0
    rows = stage_rows(result.stages)
    payload = {
        "bundle": str(result.bundle),
        "budget_met": result.budget_met,
        "budget": result.budget,
        "stages": [stage.to_dict() for stage in result.stages],
        "report": str(result.report),
        "teacher": result.teacher,
    }
    if form is Format.md:
        print(markdown(rows, STAGE_COLUMNS))
    else:
        emit(form, payload, rows, STAGE_COLUMNS)
    for bound in result.budget:
        where = f", {bound['basis']} on {bound['device']}" if "device" in bound else ""
        say(f"budget {bound['bound']}: {'met' if bound['met'] else 'MISSED'}, found {_number(bound['found'])}{where}")
    say(f"bundle: {result.bundle}\nreport: {result.report}")
    say(f"run it: edgekit run {result.bundle} {_example(recipe)}")
    return 0 if result.budget_met else BUDGET_MISSED


def _number(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def _example(recipe: Recipe) -> str:
    """What a first `edgekit run` may be asked."""
    if recipe.task == "clip":
        labels = "" if recipe.prompts is not None else ' --labels "a cat,a dog"'
        return f"--image photo.jpg{labels}"
    return '"Ada Lovelace was born in London"' if recipe.task == "tag" else '"a charming, funny film"'
