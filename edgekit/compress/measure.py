"""The packed files as their users meet them: each in its engine, beside the teacher, on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle import StageRecord, open_bundle
from edgekit.bundle.records import RungRecord
from edgekit.compress.files import Packed
from edgekit.compress.gate import WARMUP, Gate, timed_examples
from edgekit.compress.ladder import rungs
from edgekit.compress.stage import Context
from edgekit.devices import environment
from edgekit.devices.memory import model_rss_bytes
from edgekit.distill import families
from edgekit.errors import RecipeError
from edgekit.evaluate import agreement, interleaved, percentiles
from edgekit.evaluate.matrix import Answered, parity_matrix
from edgekit.evaluate.open import open_predictor
from edgekit.runtimes import isa
from edgekit.runtimes.load import load

ROUNDS = 6


@dataclass(frozen=True)
class Measured:
    """``order``: paths of the files, those that missed a bound last, the fastest first; ``record`` is of the first.

    Of a ladder, each rung's files stand together, the first rung's before the others'.
    """

    order: list[str]
    record: StageRecord
    profiles: list[dict[str, Any]]
    parity: list[dict[str, Any]]
    sizes: dict[str, int]  # bytes of the bundle with this engine's files alone
    ladder: list[RungRecord]


def measure(context: Context, bundle: Path, files: list[Packed]) -> Measured:
    """Time all ``files`` of the trial ``bundle`` and the teacher in turns; compare all that they answered."""
    recipe, splits, teacher = context.recipe, context.splits, context.teacher
    assert teacher is not None
    gate, threads = Gate(context), recipe.latency_threads
    examples = families.asked(recipe, timed_examples(splits.test))
    models = {one.path: load(bundle, threads=threads, file=one.path) for one in files}
    calls: dict[str, Any] = {path: model.run for path, model in models.items()}
    calls["teacher"] = open_predictor(teacher, threads).answer
    times = interleaved(calls, examples, ROUNDS, WARMUP, context.progress)
    theirs = percentiles(times["teacher"])
    profiles: list[dict[str, Any]] = []
    for one in files:
        model = models[one.path]
        profiles.append(
            {
                "environment": environment(),
                "engine": model.engine,
                "file": one.path,
                "precision": one.precision,
                "threads": threads,
                "batch": 1,
                "texts": len(examples),
                "basis": "measured",
                **percentiles(times[one.path]),
                "rss_bytes": model_rss_bytes(bundle, threads, examples[:4], one.path),
                "teacher": theirs,
                "samples_ms": [round(float(t), 4) for t in times[one.path]],
            }
        )
    _add_device(context, files, examples, profiles)
    profiles.sort(key=lambda row: float(_deciding(row)["p50_ms"]))
    places = {one.path: (list(dict.fromkeys(f.rung for f in files)).index(one.rung), bool(one.failed)) for one in files}
    order = sorted((row["file"] for row in profiles), key=places.__getitem__)
    sizes = _sizes(bundle, files)
    first = next(one for one in files if one.path == order[0])
    mine = next(row for row in profiles if row["file"] == first.path)
    entries = open_bundle(bundle, check_hashes=False).manifest.files
    ladder = rungs(gate, files, order, profiles, entries) if recipe.ladder else []
    matrix = _matrix(gate, [one for one in files if not one.rung])  # a rung answers otherwise, as it is meant to
    return Measured(order, _record(gate, first, mine, sizes), profiles, matrix, sizes, ladder)


def _add_device(context: Context, files: list[Packed], examples: list[Any], profiles: list[dict[str, Any]]) -> None:
    """Beside what each file took here, what it took on the device of the run."""
    device = context.device
    if device is None:
        return
    context.progress.say(f"pack: timing on {device.name}")
    found = device.time({one.path: one.source for one in files}, examples, context.recipe.latency_threads)
    for row in profiles:
        one = found[row["file"]]
        row["device"] = {
            "name": device.name,
            "basis": device.basis,
            **percentiles(one.samples_ms),
            "rss_bytes": one.rss_bytes if one.rss_bytes is not None else row["rss_bytes"],
        }


def _deciding(row: dict[str, Any]) -> dict[str, Any]:
    """The figures of a profile's row that decide: the device's, where the run has one."""
    found: dict[str, Any] = row.get("device", row)
    return found


def _record(gate: Gate, first: Packed, profile: dict[str, Any], sizes: dict[str, int]) -> StageRecord:
    teacher = gate.teacher
    assert teacher is not None
    found = gate.answers(first.folder).test
    on_test = gate.scored(found, gate.splits.test, test=True)
    faster = profile["teacher"]["p50_ms"] / profile["p50_ms"]
    note = families.asked_note(gate.recipe)
    return StageRecord(
        stage="pack",
        kept=True,
        reason=f"{faster:.1f}x faster than the teacher in torch fp32, measured in turns; in {first.engine}"
        + (f"; {note}" if note else ""),
        metric=on_test.metric,
        value=on_test.value,
        low=on_test.low,
        high=on_test.high,
        n=on_test.n,
        agreement=agreement(gate.recipe.task, gate.answers(teacher).test, found),
        size_bytes=sizes[first.engine],
        p50_ms=profile["p50_ms"],
        before_p50_ms=None,
        details={
            "teacher_p50_ms": profile["teacher"]["p50_ms"],
            "p95_ms": profile["p95_ms"],
            "latency_threads": profile["threads"],
            "times_faster_than_teacher": faster,
            "size_bytes_by_engine": sizes,
        },
    )


def _matrix(gate: Gate, files: list[Packed]) -> list[dict[str, Any]]:
    """From the answers that the gates have heard already: the packed bytes are those that were judged."""
    teacher = gate.teacher
    assert teacher is not None
    answered = [
        Answered(one.path, one.engine, one.precision, gate.answers(one.folder).test, gate.answers(one.fp32).test)
        for one in files
    ]
    names = gate.splits.names
    return parity_matrix(gate.recipe.task, answered, gate.answers(teacher).test, gate.splits.test, names, isa.detect())


def _sizes(bundle: Path, files: list[Packed]) -> dict[str, int]:
    """Bytes on disk for each engine: what all need, and its own model files; a device copies no others."""
    entries = {entry.path: entry.bytes for entry in open_bundle(bundle, check_hashes=False).manifest.files}
    manifest = (bundle / "manifest.json").stat().st_size
    own: dict[str, set[str]] = {}
    for one in files:
        own.setdefault(one.engine, set()).update(one.sources())
    shared = manifest + sum(size for path, size in entries.items() if not any(path in names for names in own.values()))
    return {engine: shared + sum(entries[name] for name in names) for engine, names in own.items()}


def budget(context: Context, measured: Measured, teacher: dict[str, Any]) -> dict[str, Any]:
    """Each bound of the recipe beside what was measured: the fastest file's figures, the largest engine's size.

    Times and memory are those of the device of the run, where it has one.
    """
    profile = next(row for row in measured.profiles if row["file"] == measured.order[0])
    there = _deciding(profile)
    found = {
        "acc": measured.record.value,
        "size": max(measured.sizes.values()),
        "rss": there["rss_bytes"],
        **{q: there[f"{q}_ms"] for q in ("p50", "p90", "p95", "p99")},
    }
    rows = []
    for bound in context.recipe.bounds().bounds:
        value = found[bound.quantity]
        if value is None or value != value:
            raise RecipeError(
                f"budget: {bound}", found=f"no measured {bound.quantity}", expected="one that can be had here"
            )
        rows.append(
            {
                "bound": str(bound),
                "found": value,
                "limit": bound.threshold(teacher["value"]),
                "met": bound.check(float(value), teacher["value"]),
                "basis": "measured" if bound.quantity in ("acc", "size") else there["basis"],
                **({"device": context.device.name} if context.device and bound.quantity not in ("acc", "size") else {}),
            }
        )
    return {"text": context.recipe.budget, "met": all(row["met"] for row in rows), "bounds": rows}
