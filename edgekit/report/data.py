"""What a report shows, read from a bundle: plain dicts, the same for HTML, Markdown and JSON."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle, StageRecord, open_bundle
from edgekit.errors import BundleError
from edgekit.report import boards
from edgekit.report.figures import ratio
from edgekit.runtimes.prompts import NAME as PROMPTS
from edgekit.runtimes.prompts import PromptBank


def read(path: str | Path, profiles: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """Everything that the report of bundle ``path`` shows, with ``profiles`` (of the published schema) as its boards.

    A profile of another bundle is taken too, and marked so. Raises BundleError.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    stages = stage_rows(manifest.stages)
    sha256 = _sha256(bundle)
    return {
        "bundle": bundle.root.name,
        "sha256": sha256,
        "name": manifest.name,
        "created": manifest.created,
        "edgekit_version": manifest.edgekit_version,
        "task": manifest.task.to_dict(),
        "models": [model.to_dict() for model in manifest.every_model],
        "ladder": [rung.to_dict() for rung in manifest.ladder],
        "files": [entry.to_dict() for entry in manifest.files],
        "size_bytes": sum(entry.bytes for entry in manifest.files),
        "budget": {**manifest.budget, "bounds": _dicts(manifest.budget.get("bounds"))},
        "teacher": {key: value for key, value in manifest.teacher.items() if key != "folder"},
        "stages": stages,
        "result": result(stages, manifest.teacher),
        "candidates": [{"stage": stage.stage, **row} for stage in manifest.stages for row in stage.candidates],
        "sensitivity": sensitivity(manifest.stages),
        "parity": manifest.parity,
        "data": {**manifest.data, "rules": _texts(manifest.data.get("rules"))},
        "licences": manifest.licences,
        "environment": manifest.environment,
        "profiles": [{k: v for k, v in one.items() if k != "samples_ms"} for one in manifest.profiles],
        "boards": boards.distinct(
            [
                *boards.made_here(manifest.environment, manifest.profiles, sha256),
                *boards.boards(profiles, sha256, _model_files(bundle)),
            ]
        ),
        "prompts": prompts(bundle),
        "golden": {"tolerances": _dicts(manifest.golden.get("tolerances"))},
        "recipe": _recipe(bundle),
    }


def read_all(paths: Sequence[str | Path], profiles: Iterable[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """:func:`read` of each of ``paths``; a profile goes to the bundle that it measured.

    That is the one with its hash, else of its name, else the first. Different bundles of one name get their folder's
    behind it, and if that is one too their hash's. Raises BundleError.
    """
    hashes = [_sha256(open_bundle(path, check_hashes=False)) for path in paths]
    given: list[list[dict[str, Any]]] = [[] for _ in paths]
    for profile in profiles:
        named = Path(str(profile.get("bundle") or "")).name
        same = [i for i, sha256 in enumerate(hashes) if sha256 == profile.get("bundle_sha256")]
        alike = [i for i, path in enumerate(paths) if Path(path).resolve().name == named]
        given[[*same, *alike, 0][0]].append(profile)
    found = [read(path, of) for path, of in zip(paths, given, strict=True)]
    for key in ("bundle", "sha256"):
        counted = Counter(name for name, _ in {(data["name"], data["sha256"]) for data in found})
        for data in found:
            if counted[data["name"]] > 1:
                data["name"] += f" ({data[key][:80] if key == 'bundle' else data[key][:8]})"
    return found


def stage_rows(stages: Sequence[StageRecord]) -> list[dict[str, Any]]:
    """The records as dicts, each with what it made of the last model that stayed before it.

    ``times_smaller`` and ``times_faster`` are ratios against that model, ``times_faster`` from one interleaved run;
    ``share_of_first_*`` are against the first model, for the bars.
    """
    rows: list[dict[str, Any]] = []
    before: StageRecord | None = None
    for stage in stages:
        first = stages[0]
        teacher_p50 = stage.details.get("teacher_p50_ms") or first.p50_ms
        rows.append(
            {
                **stage.to_dict(),
                "times_smaller": None  # pack puts files of several engines together: nothing shrank or grew
                if stage.stage == "pack"
                else stage.details.get("times_smaller")
                or ratio(before.size_bytes if before else None, stage.size_bytes or None),
                "times_faster": ratio(stage.before_p50_ms, stage.p50_ms),
                "times_faster_than_teacher": ratio(teacher_p50, stage.p50_ms),
                "times_smaller_than_teacher": ratio(first.size_bytes or None, stage.size_bytes or None),
            }
        )
        if stage.kept:
            before = stage
    return rows


def result(stages: Sequence[dict[str, Any]], teacher: dict[str, Any]) -> dict[str, Any]:
    """The last model that stayed, beside the teacher: what the top of the report says."""
    kept = [stage for stage in stages if stage["kept"] and stage["value"] is not None]
    if not kept:
        return {}
    last = kept[-1]
    value = teacher.get("value", kept[0]["value"])
    return {
        "metric": last["metric"],
        "value": last["value"],
        "low": last["low"],
        "high": last["high"],
        "n": last["n"],
        "teacher_value": value,
        "share_of_teacher": last["value"] / value if value else None,
        "size_bytes": last["size_bytes"],
        "times_smaller": last["times_smaller_than_teacher"],
        "p50_ms": last["p50_ms"],
        "times_faster": last["times_faster_than_teacher"],
    }


def prompts(bundle: Bundle) -> dict[str, Any]:
    """Of a prompt bank ``labels``, ``templates`` and ``text_tower``, whether other texts are known; {} for none."""
    if all(entry.path != PROMPTS for entry in bundle.manifest.files):
        return {}
    bank = PromptBank.load(bundle.file(PROMPTS))
    return {"labels": bank.names, "templates": bank.templates, "text_tower": bundle.manifest.needs_tokenizer}


def sensitivity(stages: Sequence[StageRecord]) -> dict[str, list[dict[str, Any]]]:
    """Stage -> the rank of weight matrices that it measured, the worst first; stages that measured none are absent."""
    found = {stage.stage: _dicts(stage.details.get("sensitivity")) for stage in stages}
    return {name: rows for name, rows in found.items() if rows}


def _sha256(bundle: Bundle) -> str:
    return hashlib.sha256((bundle.root / "manifest.json").read_bytes()).hexdigest()


def _model_files(bundle: Bundle) -> dict[str, str]:
    paths = {path for model in bundle.manifest.models for path in (model.path, *model.parts)}
    return {entry.path: entry.sha256 for entry in bundle.manifest.files if entry.path in paths}


def _dicts(value: Any) -> list[dict[str, Any]]:
    """The manifest leaves this part free, so another program may have put anything there."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _recipe(bundle: Bundle) -> str:
    try:
        return bundle.file("recipe.yaml").read_text("utf-8")
    except (OSError, BundleError):  # a bundle may be made by hand, without one
        return ""
