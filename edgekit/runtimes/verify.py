"""A bundle tests itself on this machine: files, tokenizer, and the outputs of every model file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle, ModelFile, TrustedKey, problems
from edgekit.bundle import manifest as manifests
from edgekit.bundle.golden import Golden
from edgekit.bundle.reader import manifest_bytes, refuse_old, signers_of
from edgekit.errors import BundleError, EdgekitError, EdgekitWarning, FallbackWarning, TrustError
from edgekit.runtimes import engines
from edgekit.runtimes.check import OLD_LITERT, compare, golden_of, other_ids
from edgekit.runtimes.context import ClipTokenizer
from edgekit.runtimes.device import AUTO, choice_for_gpu, place_of
from edgekit.runtimes.engines.providers import Place
from edgekit.runtimes.load import load_file
from edgekit.runtimes.preprocess import TextPreprocessor
from edgekit.runtimes.prompts import NAME as PROMPTS
from edgekit.runtimes.prompts import PromptBank

At = Callable[[str], None]


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


def verify(
    path: str | Path,
    threads: int | None = None,
    device: str = AUTO,
    *,
    trusted_keys: Sequence[TrustedKey] | None = None,
    minimum_release: int | None = None,
    at: At = lambda path: None,
) -> VerifyReport:
    """Check the bundle at ``path`` on this machine; never raises for what is wrong inside it.

    Order: with ``trusted_keys`` the signature and ``minimum_release`` (a bundle that fails them is looked at no
    further); manifest, every file's sha256, the prompt bank where there is one, token ids of the golden texts (must be
    equal), outputs of each model file, or of each of its towers (within the tolerance of this instruction set). A model
    file whose engine is not installed fails its check only if no other model file could be run. ``device``, as for
    :func:`edgekit.load`: on a GPU the file that ``load`` takes there is run a second time, and it fails unless a GPU
    has nodes of it. ``at`` is called with the path of each model file before it is run. Raises ``InputError`` for
    ``trusted_keys`` that are no keys, or a ``device`` that is none, ``MissingDependencyError`` where the library for
    signatures is missing.
    """
    root = Path(path)
    checks = []
    try:
        data = manifest_bytes(root)
        signers = signers_of(root, data, trusted_keys, minimum_release)
        manifest = manifests.parse(data, f"{root.name}/{manifests.NAME}")
        refuse_old(root, manifest, minimum_release)
    except TrustError as error:
        return VerifyReport(False, [Check("signature", False, str(error))])
    except BundleError as error:
        return VerifyReport(False, [Check("manifest", False, str(error))])
    if signers:
        by = ", ".join(signers)
        checks.append(Check("signature", True, f"release {manifest.release}, by trusted key {by}"))
    checks.append(Check("manifest", True, f"schema_version {manifest.schema_version}, {len(manifest.files)} files"))
    bad = problems(root, manifest)
    for name, problem in bad.items():
        checks.append(
            Check(f"file {name}", not problem, f"{name} {problem}" if problem else "sha256 as in the manifest")
        )
    if not any(bad.values()):
        checks += _prompts_checks(Bundle(root, manifest))
        checks += _golden_checks(Bundle(root, manifest), threads, at)
        place = place_of(Bundle(root, manifest), device)
        if place.device != "cpu":
            checks += _gpu_checks(Bundle(root, manifest), threads, place)
    return VerifyReport(all(check.ok for check in checks), checks)


def _golden_checks(bundle: Bundle, threads: int | None, at: At) -> list[Check]:
    manifest = bundle.manifest
    try:
        golden = golden_of(bundle)
        if golden is None:
            return [Check("golden vectors", False, "the bundle holds none, so its answers cannot be checked")]
        token_ids = _token_ids(bundle)
    except EdgekitError as error:
        return [Check("golden vectors", False, str(error))]
    checks = []
    if token_ids is not None:
        different = other_ids(token_ids, golden)
        detail = f"{len(golden.texts)} texts give the golden token ids"
        if different:
            detail = f"{len(different)} of {len(golden.texts)} texts give other token ids, first text {different[0]}"
        checks.append(Check("tokenizer", not different, detail))
    ran = 0
    skipped: list[ModelFile] = []
    for model in manifest.every_model:
        if any(map(engines.installed, engines.readers(model.engine))):
            at(model.path)
            checks += _outputs_checks(bundle, model, golden, threads)
            ran += 1
        else:
            skipped.append(model)
    for model in skipped:
        detail = f"not run: {model.engine} is not installed here"
        checks.append(Check(f"outputs {model.path}", ran > 0, detail))
    return checks


def _gpu_checks(bundle: Bundle, threads: int | None, place: Place) -> list[Check]:
    """The outputs on the GPU, and whether it was the GPU that gave them."""
    try:
        golden = golden_of(bundle)
        models = {model.path: model for model in bundle.manifest.models}
        chosen = models[choice_for_gpu(bundle).file]
    except EdgekitError as error:
        return [Check(f"device {place.device}", False, str(error))]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", EdgekitWarning)
        checks, placements = [], {}
        try:
            loaded = load_file(bundle, chosen, threads, engines.ON_GPU, partial(engines.create, place=place))
            placements = dict(loaded.placements)
            found = [] if golden is None else compare(loaded, golden)
            checks = [Check(f"outputs {one.file} on {place.device}", one.ok, str(one)) for one in found]
            why = ""
        except Exception as error:  # an engine may throw anything; that is what verify is to tell
            why = f"{type(error).__name__}: {error}"
    ran = bool(placements) and all(one.gpu_share for one in placements.values()) and not why
    detail = [why] if why else [str(one.message) for one in told if issubclass(one.category, FallbackWarning)]
    detail = detail or [f"{role or chosen.path}: {one}" for role, one in placements.items()]
    # What the CPU gave instead is told above already, under its own name.
    return [*(checks if ran else []), Check(f"device {place.device}", ran, "; ".join(detail))]


def _prompts_checks(bundle: Bundle) -> list[Check]:
    """What the prompt bank holds, where there is one."""
    if all(entry.path != PROMPTS for entry in bundle.manifest.files):
        return []
    try:
        bank = PromptBank.load(bundle.file(PROMPTS))
    except EdgekitError as error:
        return [Check("prompt bank", False, str(error))]
    alone = "" if bundle.manifest.needs_tokenizer else "; no text tower, so no other text is known"
    held = f"{len(bank.names)} labels of {bank.embeddings.shape[1]} numbers, {len(bank.templates)} templates"
    return [Check("prompt bank", True, held + alone)]


def _token_ids(bundle: Bundle) -> Callable[[str], list[list[int]]] | None:
    """What cuts texts into ids; None for a bundle that takes none. Raises ``BundleError``."""
    spec = bundle.manifest.task
    if not bundle.manifest.needs_tokenizer:
        return None
    if spec.task == "clip":
        cut = ClipTokenizer(bundle.file("tokenizer.json"), spec.max_length, spec.pad_id)
        return lambda text: [cut.ids(text)]
    windows = TextPreprocessor(bundle.file("tokenizer.json"), spec).windows
    return lambda text: [window.ids for window in windows([text])]


def _outputs_checks(bundle: Bundle, model: ModelFile, golden: Golden, threads: int | None) -> list[Check]:
    """One for the model file, or one for each of its towers."""
    name = f"outputs {model.path}"
    try:
        loaded = load_file(bundle, model, threads)
        found = compare(loaded, golden)
    except EdgekitError as error:
        return [Check(name, False, f"{model.path}: {error}")]
    except Exception as error:  # an engine may throw anything; that is what verify is to tell
        return [Check(name, False, f"{model.path}: {type(error).__name__}: {error}")]
    checks = []
    for one in found:
        detail = f"{loaded.engine} {loaded.engine_version}, {one}"
        if not one.ok and loaded.engine == "tflite-runtime":
            detail += f". {OLD_LITERT}"
        detail += f"; packed though {model.failed}" if model.failed else ""
        checks.append(Check(f"outputs {one.file}", one.ok, detail))
    return checks
