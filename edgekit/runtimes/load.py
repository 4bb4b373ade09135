"""A bundle to a model that answers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bundle import Bundle, ModelFile, TrustedKey, open_bundle, reach
from edgekit.bundle.golden import Golden
from edgekit.errors import (
    EdgekitError,
    EdgekitWarning,
    EngineError,
    FallbackWarning,
    MissingDependencyError,
    VerificationError,
)
from edgekit.runtimes import engines
from edgekit.runtimes.check import golden_of, prove
from edgekit.runtimes.choose import (
    TRIES,
    Choice,
    Measured,
    Offer,
    by_profile,
    memory_of,
    offer,
    pip_line,
    recall,
    remember,
)
from edgekit.runtimes.device import AUTO, choice_for_gpu, place_of
from edgekit.runtimes.engines.providers import ON_CPU, Place
from edgekit.runtimes.model import Model
from edgekit.runtimes.threads import thread_count

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel


def load(
    path: str | Path,
    threads: int | None = None,
    engine: str = "auto",
    file: str | None = None,
    check_hashes: bool = True,
    check_golden: bool = True,
    device: str = "auto",
    *,
    rung: str | None = None,
    trusted_keys: Sequence[TrustedKey] | None = None,
    minimum_release: int | None = None,
) -> Model | DualModel:
    """Open the bundle at ``path`` and load one of its model files; of a dual encoder's bundle, both its towers.

    ``threads`` None: what CPU affinity and cgroup quota allow. ``engine`` "auto" takes the file and engine that are
    fastest here: by the bundle's own profile of such a machine, else by a calibration (2 s at most, remembered in the
    cache), else by the manifest's order. One that is missing, does not load or fails its golden vectors is passed
    over with one ``EdgekitWarning``; the model's ``engine`` and ``file`` say what serves. A named ``engine`` (its first
    file) or ``file`` (a model file's path in the bundle) is taken, or the error raised. ``rung``: of a ladder, the rung
    to load, by its name; None is its first, the most accurate.

    ``device`` "gpu" asks onnxruntime for TensorRT, then CUDA, then the CPU, "cuda" for the last two; "auto" is "gpu"
    on a Jetson with such an onnxruntime, where the bundle has an ONNX file in fp16 or fp32, else "cpu". What falls back
    warns with ``FallbackWarning``; the model's ``placements`` say what runs where. No GPU was run by edgekit's makers.

    ``check_hashes`` costs a few ms a 10 MB; without it, names and sizes are still checked. ``check_golden`` runs a few
    golden examples, a few ms.

    ``trusted_keys``: public keys, as PEM files or their bytes. With them, nothing is loaded that one of them did not
    sign; ``minimum_release``: nor a bundle that was signed with a lower ``release`` (docs/trust.md).

    Raises ``BundleError``, ``TrustError`` for what is not signed so, ``InputError``, ``MissingDependencyError`` when no
    engine is installed, or with ``trusted_keys`` no library for signatures (``edgekit[sign]``),
    ``VerificationError`` for a named file that gives other answers, ``EngineError``.
    """
    threads = thread_count(threads)
    bundle = open_bundle(path, check_hashes, trusted_keys=trusted_keys, minimum_release=minimum_release)
    offered = offer(bundle, engine, file, rung)
    golden = golden_of(bundle) if check_golden else None
    place = place_of(bundle, device, engine, file)
    if place.device != "cpu":
        try:
            choice = choice_for_gpu(bundle, file)
            return _serve(bundle, offer(bundle, choice.engine, choice.file), choice, threads, golden, place)
        except EdgekitError as error:
            if device != AUTO:
                raise
            told = f"{bundle.root.name}: the CPU serves, as the GPU does not: {error}"
            warnings.warn(told, FallbackWarning, stacklevel=2)
    if engine != "auto" or file is not None:
        return _serve(bundle, offered, offered.ready[0], threads, golden)
    ranked = rank(bundle, offered, threads, check_golden)
    return _first_that_serves(bundle, offered, ranked, threads, golden)


def load_file(
    bundle: Bundle,
    chosen: ModelFile,
    threads: int | None = None,
    engine: str | None = None,
    create: engines.Create = engines.create,
) -> Model | DualModel:
    """Load the model file ``chosen`` of an opened bundle, unproven; in ``engine``, or in the one it was made for.

    Where that is not installed, in one that reads its files. Raises ``BundleError`` for a file that names others
    outside the bundle; an engine never sees it. ``create``: what loads a file.
    """
    reach.check(bundle, chosen)
    if engine is None:
        engine = next(filter(engines.installed, engines.readers(chosen.engine)), chosen.engine)
    if chosen.towers:
        from edgekit.runtimes.towers import from_bundle  # not for texts alone: it brings all that pictures need

        return from_bundle(bundle, chosen, threads, engine, create)
    return Model.from_files(
        bundle.file(chosen.path),
        bundle.file("tokenizer.json"),
        bundle.manifest.task,
        engine=engine,
        precision=chosen.precision,
        threads=threads,
        inputs=chosen.inputs,
        output=chosen.output,
        file=chosen.path,
        create=create,
    )


@dataclass(frozen=True)
class Ranked:
    """``order``: what to try; ``ms``: the profile's or calibration's times; ``broken``: causes of those that failed."""

    order: list[Choice]
    ms: dict[Choice, float]
    broken: dict[Choice, str]


def rank(bundle: Bundle, offered: Offer, threads: int, check_golden: bool) -> Ranked:
    """What to try, the fastest first: by profile, by calibration (2 s at most, remembered), by the manifest's order."""
    ms, broken = by_profile(bundle, offered, threads), {}
    preferred = offered.preferred()
    if len(preferred) > 1 and not any(choice in ms for choice in offered.ready):
        place = memory_of(bundle, offered, threads)
        found = recall(place, offered) or Measured()
        left = [choice for choice in preferred if choice not in {**found.ms, **found.broken}]
        if left and found.tries < TRIES:
            from edgekit.runtimes.calibrate import calibrate  # rarely needed

            fresh = calibrate(bundle.root, left, threads, check_golden)
            found = Measured(found.ms | fresh.ms, found.broken | fresh.broken, found.tries + 1)
            remember(place, found)
        ms, broken = ms | found.ms, found.broken
    failed = {path for path, model in offered.models.items() if model.failed}
    order = sorted(offered.ready, key=lambda one: (one.file in failed, one in broken, ms.get(one, math.inf)))
    return Ranked(order, ms, broken)


def _first_that_serves(
    bundle: Bundle, offered: Offer, ranked: Ranked, threads: int, golden: Golden | None
) -> Model | DualModel:
    order, causes = list(ranked.order), dict(ranked.broken)
    while order:
        choice = order.pop(0)
        try:
            model = _serve(bundle, offered, choice, threads, golden)
        except (EngineError, MissingDependencyError, VerificationError) as error:
            causes[choice] = str(error)
            # The next engine first, if there is one; a file that missed its bound stays the last resort.
            order.sort(key=lambda other: (bool(offered.models[other.file].failed), other.engine == choice.engine))
            continue
        causes |= {one: _not_installed(one) for one in offered.missing if _before(one, choice, offered, ranked.ms)}
        causes.pop(choice, None)
        if causes:
            warnings.warn(
                f"{bundle.root.name}: {choice.engine} serves with {choice.file}. Passed over: {_listed(causes)}. "
                f"load(..., file={choice.file!r}) takes it without this warning.",
                EdgekitWarning,
                stacklevel=3,
            )
        return model
    causes |= {one: _not_installed(one) for one in offered.missing}
    raise EngineError(
        f"no engine runs {bundle.root.name}", found=_listed(causes), fix="`edgekit doctor` may know more."
    )


def _serve(
    bundle: Bundle, offered: Offer, choice: Choice, threads: int, golden: Golden | None, place: Place = ON_CPU
) -> Model | DualModel:
    """The model of ``choice``, proven. Whatever an engine throws becomes an ``EngineError``."""
    create = engines.create if place == ON_CPU else partial(engines.create, place=place)
    try:
        model = load_file(bundle, offered.models[choice.file], threads, choice.engine, create)
        if golden is not None:
            prove(model, golden)
    except EdgekitError:
        raise
    except Exception as error:
        raise EngineError(f"{choice.engine} on {choice.file}", found=f"{type(error).__name__}: {error}") from error
    return model


def _before(missing: Choice, served: Choice, offered: Offer, ms: dict[Choice, float]) -> bool:
    """Whether ``missing`` would have been taken before ``served``: by its time where it has one, else by its place."""
    if missing in ms:
        return ms[missing] < ms.get(served, math.inf)
    places = list(offered.models)
    return not offered.models[missing.file].failed and places.index(missing.file) < places.index(served.file)


def _not_installed(choice: Choice) -> str:
    return f"not installed ({pip_line(choice.engine)})"


def _listed(causes: dict[Choice, str]) -> str:
    """Each engine's causes; for one that is not installed, its first file is enough."""
    told: dict[str, str] = {}
    for one, cause in causes.items():
        key = one.engine if cause == _not_installed(one) else f"{one.engine} {one.file}"
        told.setdefault(key, f"{one.engine} ({one.file}): {cause.rstrip('.')}")
    return "; ".join(told.values())
