"""Last step: the files that passed, with all their proof, as a bundle."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgekit import __version__
from edgekit.bundle import Manifest, ModelFile, StageRecord, write
from edgekit.compress.files import Packed, to_pack
from edgekit.compress.measure import budget, measure
from edgekit.compress.stage import Context
from edgekit.devices import environment, older
from edgekit.errors import VerificationError
from edgekit.runtimes import artifact
from edgekit.runtimes.golden import make
from edgekit.runtimes.verify import verify

GOLDEN = 16  # examples of the validation part; never of the test part


def write_bundle(
    context: Context, output: Path, records: list[StageRecord], teacher: dict[str, Any], overwrite: bool
) -> None:
    """Write the bundle to ``output`` and let it prove itself; raises VerificationError when it cannot."""
    with tempfile.TemporaryDirectory() as work:
        _write(context, output, to_pack(context, Path(work)), records, teacher, overwrite)
    report = verify(output, context.recipe.latency_threads)
    if not report.ok:
        bad = [f"{check.name}: {check.detail}" for check in report.checks if not check.ok]
        raise VerificationError(str(output), found="; ".join(bad), expected="a bundle that passes its own checks")


def _write(
    context: Context,
    output: Path,
    packed: list[Packed],
    records: list[StageRecord],
    teacher: dict[str, Any],
    overwrite: bool,
) -> None:
    recipe, splits = context.recipe, context.splits
    first = packed[0].source
    files: dict[str, Path | bytes] = {name: path for one in packed for name, path in one.sources().items()}
    files |= {**artifact.shared(first), "recipe.yaml": recipe.dump_yaml().encode()}
    models = {one.path: artifact.load(one.source, recipe.latency_threads, one.path, one.like) for one in packed}
    golden = make(models, splits.validation.spread(GOLDEN))
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
        task=artifact.read_spec(first),
        models=[one.entry(recipe.task) for one in packed],
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
    manifest = _with_results(context, manifest, files, packed, output)
    write(output, manifest, files, overwrite=overwrite or output.exists())


def _with_results(
    context: Context, manifest: Manifest, files: dict[str, Path | bytes], packed: list[Packed], output: Path
) -> Manifest:
    """The manifest with its last stage, profiles, parity, ladder and budget, measured on a trial copy of the bundle.

    The trial knows no rungs: all files are measured alike.
    """
    began = time.perf_counter()
    trial = output.with_name(f".{output.name}.trial")
    try:
        write(trial, manifest, files, overwrite=True)
        found = measure(context, trial, packed)
        measured = [one.to_dict() for one in older.tolerances(trial, context.progress)]
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return replace(
        manifest,
        golden={**manifest.golden, "tolerances": [*manifest.golden["tolerances"], *measured]},
        models=sorted(_of_first_rung(manifest, packed), key=lambda model: found.order.index(model.path)),
        ladder=found.ladder,
        stages=[*manifest.stages, replace(found.record, seconds=round(time.perf_counter() - began, 1))],
        profiles=found.profiles,
        parity=found.parity,
        budget=budget(context, found, manifest.teacher),
    )


def _of_first_rung(manifest: Manifest, packed: list[Packed]) -> list[ModelFile]:
    return [model for model, one in zip(manifest.models, packed, strict=True) if not one.rung]


def _licence_page(licences: list[dict[str, Any]]) -> str:
    rows = "\n".join(f"| {x['what']} | {x['name']} | {x['licence']} | {x['source']} |" for x in licences)
    return (
        f"# Licences of what went into this bundle\n\n| what | name | licence | source |\n|---|---|---|---|\n{rows}\n"
    )
