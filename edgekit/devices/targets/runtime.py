"""The device runtime as packages for a board: wheels of what it imports, and the part of edgekit that runs there."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import edgekit.errors as errors
from edgekit.bundle import Bundle
from edgekit.cache import cache_dir
from edgekit.devices.targets.board import Facts, ask
from edgekit.devices.targets.target import Target
from edgekit.devices.targets.transfer import compare, need, send
from edgekit.devices.wheels import Platform, download, installed
from edgekit.errors import InputError, MissingDependencyError
from edgekit.progress import Progress, Silent, track
from edgekit.runtimes import engines

PARTS = ("bundle", "runtimes", "devices")  # of edgekit, with the modules at its top
OURS = "edgekit.zip"
BASE = ("numpy", "tokenizers")
PICTURES = ("pillow",)
SIGNATURES = ("cryptography", "cffi", "pycparser")
WHEEL_OF = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}
_UNPACKED = 4  # wheels of these packages take about three times their own size
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Runtime:
    """An environment on the board. ``python``: its interpreter there; ``engines``: what runs model files in it."""

    folder: str
    python: str
    engines: list[str]
    sent_bytes: int
    built: bool


def engines_of(bundle: Bundle, asked: Sequence[str] = ()) -> list[str]:
    """Engines with wheels for boards that run a file of ``bundle``, in its order; of them those ``asked`` for."""
    able = [name for model in bundle.manifest.models for name in engines.readers(model.engine) if name in WHEEL_OF]
    found = list(dict.fromkeys(able))
    for name in asked:
        if name not in found:
            raise InputError(f"engine {name}", found=f"none in {bundle.root.name}", expected=", ".join(found) or "none")
    return [name for name in found if not asked or name in asked]


def gather(
    names: Sequence[str], platform: Platform, pictures: bool, signed: bool, wheels: Path | None, progress: Progress
) -> tuple[dict[str, Path], list[str]]:
    """Packages by file name, and the engines among ``names`` that they hold.

    ``wheels``: a folder that has been filled before; without it pip fetches what the cache lacks. An engine without a
    wheel for ``platform`` is left out with a word; ``MissingDependencyError`` when none is left.
    """
    cache = cache_dir().resolve() / "wheels" / str(platform)
    found = {OURS: _ours(cache)}
    if wheels is not None:
        given = sorted(wheels.glob("*.whl"))
        if not given:
            raise InputError(f"--wheels {wheels}", found="no wheel", expected="a folder of *.whl")
        return found | {path.name: path for path in given}, list(names)
    base = [*BASE, *(PICTURES if pictures else ()), *(SIGNATURES if signed else ())]
    for pin in track(progress, f"wheels for {platform}", _pins(base), len(base)):
        path = download(pin, platform, cache)
        found[path.name] = path
    ready, reasons = [], []
    for name, pin in zip(names, _pins(WHEEL_OF[name] for name in names), strict=True):
        try:
            path = download(pin, platform, cache)
        except MissingDependencyError as error:
            reasons.append(str(error))
            progress.say(f"left out: {name}: {error}")
            continue
        found[path.name] = path
        ready.append(name)
    if not ready:
        raise MissingDependencyError(f"engines for {platform}", found="; ".join(reasons) or "none", expected="one")
    return found, ready


def _pins(names: Iterable[str]) -> list[str]:
    names = list(names)
    here = installed(names)
    return [f"{name}=={here[name]}" if name in here else name for name in names]


def _ours(folder: Path) -> Path:
    """The part of this edgekit that runs on boards, zipped: equal sources give equal bytes."""
    package = Path(str(errors.__file__)).resolve().parent
    files = [path for part in PARTS for path in (package / part).rglob("*")] + list(package.glob("*.py"))
    folder.mkdir(parents=True, exist_ok=True)
    path, beside = folder / OURS, folder / f".{OURS}.{os.getpid()}"
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED) as packed:
        for one in sorted(files):
            if one.suffix in (".py", ".toml"):
                name = (Path("edgekit") / one.relative_to(package)).as_posix()
                packed.writestr(zipfile.ZipInfo(name, _EPOCH), one.read_bytes(), zipfile.ZIP_DEFLATED)
    beside.replace(path)
    return path


def install(
    target: Target,
    facts: Facts,
    names: Sequence[str],
    pictures: bool = False,
    signed: bool = False,
    wheels: Path | None = None,
    progress: Progress = Silent(),
) -> Runtime:
    """Let ``target`` have a runtime with the engines ``names``, with what ``pictures`` and ``signed`` bundles take.

    Its folder's name is a hash of its content: one that is there is taken as it is, and none is ever changed.
    """
    packages, ready = gather(names, facts.platform, pictures, signed, wheels, progress)
    plan = compare(target, f"{facts.root}/packages", packages)
    content = json.dumps([facts.python[:2], {name: plan.hashes[name][0] for name in sorted(packages)}])
    folder = f"{facts.root}/runtimes/{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    if target.run(f"test -d {shlex.quote(folder)}").code:
        need(target, "the runtime", plan.bytes + _UNPACKED * plan.total, plan.free)
    send(target, plan, f"packages to {target.name}", progress)
    progress.say(f"{target.name}: runtime in {folder}")
    files = [f"{plan.root}/{name}" for name in sorted(packages)]
    built = ask(target, {"do": "build", "target": folder, "wheels": files})["built"]
    return Runtime(folder, f"{folder}/bin/python", ready, plan.bytes, built)
