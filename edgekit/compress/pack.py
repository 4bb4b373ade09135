"""Last step: the model that passed, with all its proof, as a bundle."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import __version__
from edgekit.bundle import Manifest, ModelFile, StageRecord, write
from edgekit.bundle.records import TaskSpec
from edgekit.compress.gate import WARMUP, Gate, timed_texts
from edgekit.compress.stage import Context
from edgekit.devices import environment
from edgekit.devices.memory import model_rss_bytes
from edgekit.errors import RecipeError, VerificationError
from edgekit.evaluate import RuntimePredictor, agreement, interleaved, percentiles, predict
from edgekit.evaluate.open import open_predictor, read_spec
from edgekit.runtimes.golden import make
from edgekit.runtimes.load import load
from edgekit.runtimes.model import Model
from edgekit.runtimes.verify import verify

GOLDEN_TEXTS = 16
ROUNDS = 6


def model_folders(context: Context, last: Path) -> dict[str, Path]:
    """Precision -> folder of each model file to pack, the preferred first.

    The recipe's precisions, as far as their stages stayed; fp32 where INT8 did not.
    """
    have = {"fp32": context.kept["export"]}
    if "quantize" in context.kept:
        have = {"w8a8": context.kept["quantize"], **have}
    wanted = [p for p in have if p in context.recipe.precision]
    if not wanted:
        context.progress.say("pack: INT8 did not stay, so the bundle holds fp32")
        wanted = ["fp32"]
    return {precision: have[precision] for precision in wanted}


def write_bundle(
    context: Context,
    folders: dict[str, Path],
    output: Path,
    records: list[StageRecord],
    teacher: dict[str, Any],
    overwrite: bool,
) -> None:
    """Write the bundle to ``output`` and let it prove itself; raises VerificationError when it cannot."""
    recipe, splits = context.recipe, context.splits
    first = next(iter(folders.values()))
    spec = read_spec(first)
    models = {f"models/{p}.onnx": folder for p, folder in folders.items()}
    files: dict[str, Path | bytes] = {name: folder / "model.onnx" for name, folder in models.items()}
    files |= {"tokenizer.json": first / "tokenizer.json", "recipe.yaml": recipe.dump_yaml().encode()}
    golden = make(_loaded(models, folders, spec, recipe.latency_threads), _golden_texts(context))
    files |= golden["files"]
    licences = [
        {"what": "teacher", "name": recipe.model, "licence": teacher["licence"], "source": recipe.model},
        *({"what": "data", **licence} for licence in splits.licences),
    ]
    files["LICENSES.md"] = _licence_page(licences).encode()
    manifest = Manifest(
        name=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        edgekit_version=__version__,
        task=spec,
        models=[
            ModelFile(f"models/{p}.onnx", "onnxruntime", p, output="embeddings" if recipe.task == "embed" else "logits")
            for p in folders
        ],
        stages=records,
        environment=environment(),
        teacher=teacher,
        licences=licences,
        golden=golden["manifest"],
        data={
            "name": splits.name,
            "fingerprint": splits.fingerprint,
            "sizes": {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)},
            "rules": splits.rules,
        },
    )
    manifest = _with_results(context, manifest, files, output, overwrite)
    write(output, manifest, files, overwrite=overwrite or output.exists())
    report = verify(output, recipe.latency_threads)
    if not report.ok:
        bad = [f"{check.name}: {check.detail}" for check in report.checks if not check.ok]
        raise VerificationError(str(output), found="; ".join(bad), expected="a bundle that passes its own checks")


def _with_results(
    context: Context, manifest: Manifest, files: dict[str, Path | bytes], output: Path, overwrite: bool
) -> Manifest:
    """The manifest with its last stage, its profile and its budget, measured on a trial copy of the bundle."""
    began = time.perf_counter()
    trial = output.with_name(f".{output.name}.trial")
    try:
        write(trial, manifest, files, overwrite=True)
        record, profile = _measure(context, trial)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    record = replace(record, seconds=round(time.perf_counter() - began, 1))
    budget = _budget(context, record, profile, manifest.teacher)
    return replace(manifest, stages=[*manifest.stages, record], profiles=[profile], budget=budget)


def _measure(context: Context, bundle: Path) -> tuple[StageRecord, dict[str, Any]]:
    """The bundle as its users meet it: through ``edgekit.load``, beside the teacher in torch fp32."""
    recipe, splits, teacher = context.recipe, context.splits, context.teacher
    assert teacher is not None
    gate = Gate(context)
    threads = recipe.latency_threads
    model = load(bundle, threads=threads)
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    packed = RuntimePredictor(model, size)
    found = predict(packed, splits.test, context.progress)
    on_test = gate.scored(found, splits.test, test=True)
    calls = {"bundle": packed.answer, "teacher": open_predictor(teacher, threads).answer}
    texts = timed_texts(splits.test)
    times = interleaved(calls, texts, ROUNDS, WARMUP, context.progress)
    now = percentiles(times["bundle"])
    theirs = percentiles(times["teacher"])
    profile: dict[str, Any] = {
        "environment": environment(),
        "engine": model.engine,
        "file": model.file,
        "precision": model.precision,
        "threads": threads,
        "batch": 1,
        "texts": len(texts),
        "basis": "measured",
        **now,
        "rss_bytes": model_rss_bytes(bundle, threads, texts[:4]),
        "teacher": theirs,
        "samples_ms": [round(float(t), 4) for t in times["bundle"]],
    }
    a, b = gate.answers(teacher).test, found
    record = StageRecord(
        stage="pack",
        kept=True,
        reason=f"{theirs['p50_ms'] / now['p50_ms']:.1f}x faster than the teacher in torch fp32, measured in turns",
        metric=on_test.metric,
        value=on_test.value,
        low=on_test.low,
        high=on_test.high,
        n=on_test.n,
        agreement=agreement(recipe.task, a[0] if isinstance(a, tuple) else a, b[0] if isinstance(b, tuple) else b),
        size_bytes=size,
        p50_ms=now["p50_ms"],
        before_p50_ms=None,
        details={
            "teacher_p50_ms": theirs["p50_ms"],
            "p95_ms": now["p95_ms"],
            "latency_threads": threads,
            "times_faster_than_teacher": theirs["p50_ms"] / now["p50_ms"],
        },
    )
    return record, profile


def _budget(context: Context, record: StageRecord, profile: dict[str, Any], teacher: dict[str, Any]) -> dict[str, Any]:
    """Each bound of the recipe beside what was measured here."""
    found = {
        "acc": record.value,
        "size": record.size_bytes,
        "rss": profile["rss_bytes"],
        **{q: profile[f"{q}_ms"] for q in ("p50", "p90", "p95", "p99")},
    }
    rows = []
    for bound in context.recipe.bounds().bounds:
        value = found[bound.quantity]
        if value is None or not np.isfinite(value):
            raise RecipeError(
                f"budget: {bound}", found=f"no measured {bound.quantity}", expected="one that can be had here"
            )
        rows.append(
            {
                "bound": str(bound),
                "found": value,
                "limit": bound.threshold(teacher["value"]),
                "met": bound.check(float(value), teacher["value"]),
                "basis": "measured",
            }
        )
    return {"text": context.recipe.budget, "met": all(row["met"] for row in rows), "bounds": rows}


def _loaded(models: dict[str, Path], folders: dict[str, Path], spec: TaskSpec, threads: int) -> dict[str, Model]:
    return {
        name: Model.from_files(
            folder / "model.onnx", folder / "tokenizer.json", spec, precision=precision, threads=threads, file=name
        )
        for (name, folder), precision in zip(models.items(), folders, strict=True)
    }


def _golden_texts(context: Context) -> list[str]:
    """Texts of the validation part, from the shortest to the longest; never of the test part."""
    texts = sorted(set(context.splits.validation.texts), key=lambda t: (len(t), t))
    picks = np.linspace(0, len(texts) - 1, min(GOLDEN_TEXTS, len(texts))).round().astype(int)
    return [texts[i] for i in dict.fromkeys(picks.tolist())]


def _licence_page(licences: list[dict[str, Any]]) -> str:
    rows = "\n".join(f"| {x['what']} | {x['name']} | {x['licence']} | {x['source']} |" for x in licences)
    return (
        f"# Licences of what went into this bundle\n\n| what | name | licence | source |\n|---|---|---|---|\n{rows}\n"
    )
