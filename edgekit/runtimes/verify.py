"""A bundle tests itself on this machine: files, tokenizer, and the outputs of every model file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle, ModelFile, problems, read_manifest
from edgekit.bundle.golden import NAME, Golden
from edgekit.bundle.golden import read as read_golden
from edgekit.errors import EdgekitError, MissingDependencyError
from edgekit.runtimes import engines, isa
from edgekit.runtimes.golden import alone, differences
from edgekit.runtimes.load import load_file
from edgekit.runtimes.preprocess import TextPreprocessor


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``detail`` says what was found, with its numbers."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class VerifyReport:
    """All checks; ``ok`` when every one passed."""

    ok: bool
    checks: list[Check]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def verify(path: str | Path, threads: int | None = None) -> VerifyReport:
    """Check the bundle at ``path`` on this machine; never raises for what is wrong inside it.

    Order: manifest, every file's sha256, token ids of the golden texts (must be equal), outputs of each model file
    (within the tolerance of this instruction set). A model file whose engine is not installed fails its check only if
    no other model file could be run.
    """
    root = Path(path)
    try:
        manifest = read_manifest(root)
    except EdgekitError as error:
        return VerifyReport(False, [Check("manifest", False, str(error))])
    checks = [Check("manifest", True, f"schema_version {manifest.schema_version}, {len(manifest.files)} files")]
    bad = problems(root, manifest)
    for name, problem in bad.items():
        checks.append(
            Check(f"file {name}", not problem, f"{name} {problem}" if problem else "sha256 as in the manifest")
        )
    if not any(bad.values()):
        checks += _golden_checks(Bundle(root, manifest), threads)
    return VerifyReport(all(check.ok for check in checks), checks)


def _golden_checks(bundle: Bundle, threads: int | None) -> list[Check]:
    manifest = bundle.manifest
    if not manifest.golden:
        return [Check("golden vectors", False, "the bundle holds none, so its answers cannot be checked")]
    try:
        golden = read_golden(manifest.golden, bundle.file(NAME).read_bytes(), manifest.task.task)
        preprocessor = TextPreprocessor(bundle.file("tokenizer.json"), manifest.task)
        different = [
            i
            for i, text in enumerate(golden.texts)
            if [window.ids for window in preprocessor.windows([text])] != golden.ids[i]
        ]
    except (EdgekitError, OSError) as error:
        return [Check("golden vectors", False, str(error))]
    detail = f"{len(golden.texts)} texts give the golden token ids"
    if different:
        detail = f"{len(different)} of {len(golden.texts)} texts give other token ids, first text {different[0]}"
    checks = [Check("tokenizer", not different, detail)]
    ran = 0
    skipped: list[str] = []
    for model in manifest.models:
        if engines.installed(model.engine):
            checks.append(_outputs_check(bundle, model, golden, threads))
            ran += 1
        else:
            skipped.append(f"{model.path} ({model.engine})")
    for name in skipped:
        checks.append(Check(f"outputs {name}", ran > 0, "not run: its engine is not installed here"))
    return checks


def _outputs_check(bundle: Bundle, model: ModelFile, golden: Golden, threads: int | None) -> Check:
    name, here = f"outputs {model.path}", isa.detect()
    try:
        if model.path not in golden.outputs:
            return Check(name, False, f"{NAME} has no outputs of {model.path}")
        tolerance = golden.tolerance(model.path, here)
        found = alone(load_file(bundle, model, threads), golden.texts)
    except MissingDependencyError as error:
        return Check(name, False, str(error))
    except EdgekitError as error:
        return Check(name, False, f"{model.path}: {error}")
    largest, cosine = differences(golden.outputs[model.path], found)
    ok = largest <= tolerance.max_abs and cosine >= tolerance.min_cosine
    return Check(
        name,
        ok,
        f"{len(found)} texts on {here}: max abs {largest:.3g} (at most {tolerance.max_abs:.3g}), "
        f"min cosine {cosine:.6f} (at least {tolerance.min_cosine:.6f}); tolerance {tolerance.basis}",
    )
