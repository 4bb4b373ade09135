"""A bundle to a model that answers."""

from __future__ import annotations

from pathlib import Path

from edgekit.bundle import Bundle, ModelFile, open_bundle
from edgekit.errors import InputError, MissingDependencyError
from edgekit.runtimes import engines
from edgekit.runtimes.model import Model


def load(
    path: str | Path,
    threads: int | None = None,
    engine: str = "auto",
    file: str | None = None,
    check_hashes: bool = True,
) -> Model:
    """Open the bundle at ``path`` and load one of its model files.

    ``threads`` None: what CPU affinity and cgroup quota allow. ``engine`` "auto": the manifest's first file whose
    engine is installed. ``file``: a model file's path in the bundle, instead of the first that fits. Hashing costs a
    few ms a 10 MB; ``check_hashes=False`` leaves it out (names and sizes are always checked).

    Raises ``BundleError``, ``EngineError``, ``MissingDependencyError``, ``InputError``.
    """
    bundle = open_bundle(path, check_hashes)
    return load_file(bundle, choose(bundle, engine, file), threads)


def load_file(bundle: Bundle, chosen: ModelFile, threads: int | None = None) -> Model:
    """Load the model file ``chosen`` of an opened bundle."""
    return Model.from_files(
        bundle.file(chosen.path),
        bundle.file("tokenizer.json"),
        bundle.manifest.task,
        engine=chosen.engine,
        precision=chosen.precision,
        threads=threads,
        inputs=chosen.inputs,
        output=chosen.output,
        file=chosen.path,
    )


def choose(bundle: Bundle, engine: str = "auto", file: str | None = None) -> ModelFile:
    """The manifest's first model file that fits ``engine`` and ``file`` and whose engine is installed."""
    models = bundle.manifest.models
    if file is not None:
        models = [model for model in models if model.path == file]
        if not models:
            have = ", ".join(model.path for model in bundle.manifest.models)
            raise InputError("file", found=repr(file), expected=f"one of {have}")
    if engine != "auto":
        have = ", ".join(dict.fromkeys(model.engine for model in models))
        models = [model for model in models if model.engine == engine]
        if not models:
            raise InputError("engine", found=repr(engine), expected=f"auto, or one of {have}")
    for model in models:
        if engines.installed(model.engine):
            return model
    usable = [model.engine for model in models if model.engine in engines.known()]
    if not usable:
        raise MissingDependencyError(
            f"{bundle.root.name}: no engine of it is known to this version",
            found=", ".join(dict.fromkeys(model.engine for model in models)),
            expected=", ".join(engines.known()),
            fix="Upgrade with pip install -U edgekit.",
        )
    raise MissingDependencyError(
        f"{bundle.root.name}: none of its engines is installed",
        expected=", ".join(dict.fromkeys(usable)),
        fix=f"Install one with pip install edgekit[{usable[0]}].",
    )
