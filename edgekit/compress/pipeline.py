"""Run the stages one after the other, each through its gate, and keep what passed."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle.records import StageRecord
from edgekit.compress import ranks
from edgekit.compress.cache import StageCache, code_version, key_of
from edgekit.compress.gate import Gate
from edgekit.compress.stage import Context, Stage, Work
from edgekit.compress.stages import follow_after
from edgekit.errors import StageError

_MEASURING = ("evaluate", "compress", "runtimes", "data")


@dataclass(frozen=True)
class Outcome:
    """What the stages left: every stage's record, the cache keys of all that ran."""

    records: list[StageRecord]
    keys: list[str]


def run_stages(context: Context, stages: list[Stage], cache: StageCache, model_fingerprint: str) -> Outcome:
    """Run ``stages`` in order. A finished stage is taken from the cache; one that fails its gate is rolled back."""
    gate = Gate(context)
    begun = key_of(model=model_fingerprint)
    kept: dict[str, str] = {}  # stage -> its key
    records: list[StageRecord] = []
    keys: list[str] = []
    for stage in stages:
        if stage.start and stage.start not in kept:
            records.append(StageRecord(stage.name, False, f"not run: {stage.start} did not stay", "none"))
            context.progress.say(f"{stage.name}: {records[-1].reason}")
            continue
        source = context.kept[stage.start] if stage.start else context.torch
        from_key = source_key(stage, context, kept, begun)
        key = stage_key(stage, context, from_key, kept)
        keys.append(key)
        _run(stage, key, Work(context, source, Path(), Path()), cache)
        record = _pass_gate(stage, key, source, from_key, gate, cache)
        records.append(record)
        if record.kept:
            kept[stage.name] = key
            follow_after(context, stage, cache.model(key))
        elif cache.model(key).is_dir():
            context.missed[stage.name] = (cache.model(key), record.reason)
        context.progress.say(f"{stage.name}: {'kept' if record.kept else 'ROLLED BACK'}: {record.reason}")
    return Outcome(records, keys)


def source_key(stage: Stage, context: Context, kept: dict[str, str], begun: str) -> str:
    """The key of the stage that made what ``stage`` starts from."""
    if stage.start:
        return kept[stage.start]
    return next((kept[name] for name, folder in context.kept.items() if folder == context.torch), begun)


def stage_key(stage: Stage, context: Context, source: str, kept: dict[str, str]) -> str:
    """The cache key of ``stage`` on the model that key ``source`` names. ``kept``: keys of the stages that stayed."""
    followed = context.followed.parent.name if context.followed else None
    return key_of(
        stage=stage.name,
        part=stage.part,
        code=code_version(stage.code),
        source=source,
        beside=kept.get(stage.beside),
        followed=followed,
        data=context.splits.fingerprint,
    )


def _run(stage: Stage, key: str, work: Work, cache: StageCache) -> None:
    """Make stage ``key`` finished. A stage that may be rolled back and fails is finished with its failure."""
    context = work.context
    done = cache.has(key)
    ranks.wait()  # all have looked before any of them writes
    if done:
        context.progress.say(f"{stage.name}: taken from the cache")
        return
    if not (stage.shared or ranks.is_first()):
        ranks.wait()
        return
    context.progress.say(f"{stage.name}: {stage.what}")
    partial = cache.begin(key)
    began = time.perf_counter()
    try:
        details = stage.run(Work(context, work.source, partial / "model", cache.scratch(key)))
    except StageError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if stage.required:
            raise
        partial = cache.begin(key)
        details = {"failed": str(error)}
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    details["seconds"] = round(time.perf_counter() - began, 1)
    if ranks.is_first():
        cache.finish(key, partial, details)
    else:
        shutil.rmtree(partial, ignore_errors=True)
    ranks.wait()


def _pass_gate(
    stage: Stage, key: str, before: Path | None, before_key: str, gate: Gate, cache: StageCache
) -> StageRecord:
    """The gate's word on stage ``key``: asked once, remembered, the same for every process."""
    details = cache.details(key)
    seconds = float(details.pop("seconds"))
    if "failed" in details:
        return StageRecord(stage.name, kept=False, reason=details["failed"], metric="none", seconds=seconds)
    question = key_of(
        before=before_key,
        teacher=gate.teacher.parent.name if gate.teacher else None,
        bounds=stage.gate.model_dump(),
        threads=gate.recipe.latency_threads,
        device=gate.context.device.name if gate.context.device else None,
        code=code_version(_MEASURING),
    )
    found = cache.read_gate(key, question)
    if found is None and ranks.is_first():
        record = gate.judge(stage.name, cache.model(key), before, stage.gate, details, seconds, stage.required)
        cache.write_gate(key, question, record.to_dict())
    ranks.wait()
    found = cache.read_gate(key, question)
    record_: StageRecord = StageRecord.from_dict(found, f"gate of {stage.name}")
    return record_


def teacher_summary(records: list[StageRecord], model: str, folder: Path) -> dict[str, Any]:
    """What the bundle says of its teacher."""
    first = records[0]
    return {
        "model": model,
        "sha256": first.details.get("model_sha256", ""),
        "licence": first.details.get("model_licence", "not stated"),
        "metric": first.metric,
        "value": first.value,
        "low": first.low,
        "high": first.high,
        "n": first.n,
        "size_bytes": first.size_bytes,
        "p50_ms": first.p50_ms,
        "engine": "torch",
        "precision": "fp32",
        "folder": str(folder),
    }
