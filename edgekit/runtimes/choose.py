"""Which model file, in which engine: by the bundle's profiles, by a calibration on this machine, by the manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from edgekit.bundle import Bundle, ModelFile
from edgekit.cache import cache_dir
from edgekit.errors import InputError, MissingDependencyError
from edgekit.runtimes import engines, isa

TRIES = 3  # loads that may calibrate what was not reached before: a machine that has just started is busy
MAX_BYTES = 1 << 16  # of a remembered choice; a real one has a few hundred


class Choice(NamedTuple):
    """A model file by its path, and the engine that is to run it."""

    file: str
    engine: str


@dataclass(frozen=True)
class Measured:
    """What ``tries`` calibrations found: median ms an answer of each choice, the causes of those that cannot serve."""

    ms: dict[Choice, float] = field(default_factory=dict)
    broken: dict[Choice, str] = field(default_factory=dict)
    tries: int = 0


@dataclass(frozen=True)
class Offer:
    """What can be asked for: ``ready`` and ``missing`` (engine not installed) choices, in the manifest's order.

    Files that missed their bound come last.
    """

    models: dict[str, ModelFile]
    ready: list[Choice]
    missing: list[Choice]

    def preferred(self) -> list[Choice]:
        """The first choice of each installed engine, without files that missed their bound."""
        first: dict[str, Choice] = {}
        for choice in self.ready:
            if not self.models[choice.file].failed:
                first.setdefault(choice.engine, choice)
        return list(first.values())


def offer(bundle: Bundle, engine: str = "auto", file: str | None = None, rung: str | None = None) -> Offer:
    """The files of ``bundle`` that fit ``engine`` and ``file``, each with the engine that is to run it.

    That is the engine that it was made for, else one that reads its files. Of a ladder: those of ``rung``; of its first
    where neither ``rung`` nor ``file`` is named. Raises ``InputError`` for a file, a rung or an engine that the bundle
    does not have, ``MissingDependencyError`` when nothing that fits is installed.
    """
    manifest = bundle.manifest
    every = manifest.models if file is None else manifest.every_model
    every = every if rung is None else manifest.rung(rung)
    models = [model for model in every if file in (None, model.path)]
    if not models:
        raise InputError("file", found=repr(file), expected=f"one of {', '.join(model.path for model in every)}")
    known = {model.path: engines.readers(model.engine) for model in models}
    if engine != "auto":
        have = list(dict.fromkeys(name for model in models for name in known[model.path] or [model.engine]))
        known = {path: [engine] for path, names in known.items() if engine in names}
        if not known:
            raise InputError("engine", found=repr(engine), expected=f"auto, or one of {', '.join(have)}")
    installed = {name: engines.installed(name) for names in known.values() for name in names}
    ready: list[Choice] = []
    missing: list[Choice] = []
    for model in sorted(models, key=lambda model: bool(model.failed)):
        names = known.get(model.path, [])
        here = [name for name in names if installed[name]]
        if here:
            ready.append(Choice(model.path, here[0]))
        elif names:
            missing.append(Choice(model.path, names[0]))
    if not ready:
        raise _nothing_installed(bundle, [choice.engine for choice in missing])
    return Offer({model.path: model for model in models}, ready, missing)


def _nothing_installed(bundle: Bundle, wanted: list[str]) -> MissingDependencyError:
    if not wanted:
        return MissingDependencyError(
            f"{bundle.root.name}: no engine of it is known to this version",
            found=", ".join(dict.fromkeys(model.engine for model in bundle.manifest.models)),
            expected=", ".join(engines.known()),
            fix="Upgrade with pip install -U edgekit.",
        )
    return MissingDependencyError(
        f"{bundle.root.name}: none of its engines is installed",
        expected=", ".join(dict.fromkeys(wanted)),
        fix=f"Install one with {pip_line(wanted[0])}.",
    )


def pip_line(engine: str) -> str:
    """How to get ``engine``, or what reads its files."""
    return f"pip install edgekit[{'litert' if engine == 'tflite-runtime' else engine}]"


def by_profile(bundle: Bundle, offer: Offer, threads: int) -> dict[Choice, float]:
    """p50 in ms of the choices (missing ones too) that the bundle's profiles measured on such a machine.

    Such a machine: the same processor model, instruction set and number of threads.
    """
    found: dict[Choice, float] = {}
    profiles = bundle.manifest.profiles
    if not profiles:
        return found
    here = isa.machine()
    wanted = {*offer.ready, *offer.missing}
    for row in profiles:
        seen, p50 = row.get("environment"), row.get("p50_ms")
        if not isinstance(seen, dict) or any(seen.get(key) != value for key, value in here.items()):
            continue  # of another machine, or not a profile
        choice = Choice(str(row.get("file")), str(row.get("engine")))
        if row.get("threads") == threads and choice in wanted and _is_time(p50):
            found[choice] = min(p50, found.get(choice, math.inf))
    return found


def memory_of(bundle: Bundle, offer: Offer, threads: int) -> Path:
    """The file that remembers a calibration: by processor, instruction set, bundle, thread limit and engines."""
    key = {
        **isa.machine(),
        "bundle": hashlib.sha256((bundle.root / "manifest.json").read_bytes()).hexdigest(),
        "threads": threads,
        "files": [choice.file for choice in offer.preferred()],
        "engines": {choice.engine: engines.stamp(choice.engine) for choice in offer.preferred()},
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_dir() / "choices" / f"{digest[:32]}.json"


def remember(path: Path, measured: Measured) -> None:
    """Write what a calibration found; a place that cannot be written is no fault."""
    value = {
        "schema_version": 1,
        "tries": measured.tries,
        "ms": [{**choice._asdict(), "p50_ms": ms} for choice, ms in measured.ms.items()],
        "broken": [{**choice._asdict(), "cause": cause[:500]} for choice, cause in measured.broken.items()],
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(json.dumps(value), "utf-8")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def recall(path: Path, offer: Offer) -> Measured | None:
    """What :func:`remember` wrote; None for no file, and for one that is damaged or of other choices."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError:
        return None
    found = parse(data)
    if found is None or not {*found.ms, *found.broken} <= set(offer.ready):
        return None
    return found


def parse(data: bytes) -> Measured | None:
    """The bytes of a remembered choice; None for anything else than :func:`remember` would write."""
    try:
        value = json.loads(data.decode("utf-8")) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("schema_version") != 1:
        return None
    ms, broken, tries = value.get("ms"), value.get("broken"), value.get("tries")
    if not isinstance(ms, list) or not isinstance(broken, list) or type(tries) is not int or not 0 <= tries <= TRIES:
        return None
    if not all(_fits(row, "p50_ms") and _is_time(row["p50_ms"]) for row in ms):
        return None
    if not all(_fits(row, "cause") and isinstance(row["cause"], str) for row in broken):
        return None
    return Measured(
        {Choice(row["file"], row["engine"]): float(row["p50_ms"]) for row in ms},
        {Choice(row["file"], row["engine"]): row["cause"] for row in broken},
        tries,
    )


def _fits(row: Any, value: str) -> bool:
    return isinstance(row, dict) and value in row and all(isinstance(row.get(key), str) for key in Choice._fields)


def _is_time(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and 0 < value < 1e9
