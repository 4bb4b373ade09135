"""Wheels for another machine's processor and Python, fetched on this one by pip, so that a board needs no network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgekit.errors import MissingDependencyError

MACHINES = ("aarch64", "x86_64")  # those that have wheels of numpy, tokenizers and an engine
OLDEST_GLIBC, LATEST_CPYTHON = 17, 14
TIMEOUT_S = 600


@dataclass(frozen=True)
class Platform:
    """What a wheel must fit: ``machine`` as in ``uname -m``, CPython ``python`` ("3.11"), glibc 2.``glibc_minor``."""

    machine: str
    python: str
    glibc_minor: int

    def __str__(self) -> str:
        return f"{self.machine}-cp{self.python.replace('.', '')}-glibc2.{self.glibc_minor}"

    @property
    def options(self) -> list[str]:
        """As pip takes them."""
        found = ["--only-binary=:all:", "--python-version", self.python, "--implementation", "cp"]
        for abi in (f"cp{self.python.replace('.', '')}", "abi3", "none"):
            found += ["--abi", abi]
        for minor in range(OLDEST_GLIBC, self.glibc_minor + 1):
            found += ["--platform", f"manylinux_2_{minor}_{self.machine}"]
        return [*found, "--platform", f"manylinux2014_{self.machine}"]


def installed(names: Iterable[str]) -> dict[str, str]:
    """Name -> version of those that are installed here: answers may differ by processor, not by version."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def unpack(pins: Sequence[str], platform: Platform, site: Path) -> None:
    """Install ``pins`` for ``platform`` in the folder ``site``. Raises ``MissingDependencyError``."""
    _pip(["install", "--no-compile", "--target", str(site), *platform.options, *pins], pins, platform)


def download(pin: str, platform: Platform, folder: Path) -> Path:
    """The wheel of ``pin`` (``name==version`` or ``name``) for ``platform``, in ``folder``; fetched if it is not there.

    Raises ``MissingDependencyError``: no such wheel, no network.
    """
    name, _, version = pin.partition("==")
    own = folder / pin
    if version and (found := sorted(own.glob("*.whl"))):
        return found[0]
    own.mkdir(parents=True, exist_ok=True)
    _pip(["download", "--dest", str(own), *platform.options, pin], [pin], platform)
    found = sorted(own.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise MissingDependencyError(f"a wheel of {name} for {platform}", found="none from pip")
    return found[-1]


def _pip(arguments: list[str], pins: Sequence[str], platform: Platform) -> None:
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check", "--no-deps"]
    run([*command, *arguments[1:]], f"wheels of {', '.join(pins)} for {platform} cannot be fetched")


def run(command: Sequence[str], what: str, cwd: Path | None = None) -> None:
    """Run what fetches something. Raises ``MissingDependencyError`` saying ``what`` failed, with the first error."""
    fix = "Check the network and the proxy."
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise MissingDependencyError(what, found=f"no end after {TIMEOUT_S} s", fix=fix) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        errors = [line for line in lines if line.startswith(("E:", "ERROR:"))] or lines
        raise MissingDependencyError(what, found=errors[0] if errors else f"exit {done.returncode}", fix=fix)
