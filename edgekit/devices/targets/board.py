"""What the board is, and jobs for its own Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.devices.targets import remote
from edgekit.devices.targets.process import QUIET, Step
from edgekit.devices.targets.target import Target
from edgekit.devices.wheels import MACHINES, Platform
from edgekit.errors import TargetError

LEAST_PYTHON = (3, 11)
LEAST_GLIBC = 28  # of the wheels of numpy and the engines
FOLDER = "edgekit"  # below the user's home
_FIND = """
for python in python3 python3.14 python3.13 python3.12 python3.11; do
  if command -v $python >/dev/null 2>&1 && $python -c 'import sys; sys.exit(sys.version_info < {least})' 2>/dev/null
  then exec $python -c {script}; fi
done
uname -sm; python3 --version 2>&1; exit 41
"""
_NO_PYTHON = 41
_STEPS = {
    "facts": Step("looking at the board"),
    "missing": Step("comparing files there"),
    "receive": Step("receiving files"),
    "build": Step("building the runtime", QUIET),  # all of it is forced to the disk at the end
}


@dataclass(frozen=True)
class Facts:
    """``root``: the absolute path of edgekit's folder there; ``free``: bytes; ``python``: how to call it."""

    machine: str
    bits: int
    python: tuple[int, ...]
    glibc_minor: int
    root: str
    free: int
    name: str

    @property
    def platform(self) -> Platform:
        """What wheels must fit."""
        return Platform(self.machine, f"{self.python[0]}.{self.python[1]}", self.glibc_minor)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "name": self.name,
            "machine": self.machine,
            "python": ".".join(map(str, self.python)),
            "glibc": f"2.{self.glibc_minor}",
            "free_bytes": self.free,
        }


def look(target: Target, folder: str = FOLDER) -> Facts:
    """The facts of ``target``, with what a runtime needs. Raises ``TargetError`` for a board that cannot run it."""
    answer = ask(target, {"do": "facts", "root": folder})
    libc, version = answer["libc"]
    parts = version.split(".")
    if libc != "glibc" or len(parts) < 2 or int(parts[0]) != 2:
        raise TargetError(
            f"{target.name}: C library", found=f"{libc} {version}".strip() or "none that Python knows", expected="glibc"
        )
    facts = Facts(
        answer["machine"],
        answer["bits"],
        tuple(answer["python"]),
        int(parts[1]),
        answer["root"],
        answer["free"],
        answer["name"],
    )
    if facts.machine not in MACHINES or facts.bits != 64:
        raise TargetError(
            f"{target.name}: architecture",
            found=f"{facts.machine}, Python of {facts.bits} bits",
            expected=f"{' or '.join(MACHINES)}, 64 bits",
            fix="The engines have no wheels for it. Where the processor is a 64-bit one, install the 64-bit system.",
        )
    if facts.glibc_minor < LEAST_GLIBC:
        raise TargetError(
            f"{target.name}: glibc",
            found=f"2.{facts.glibc_minor}",
            expected=f"2.{LEAST_GLIBC} or newer",
            fix="Install a newer release of the board's system.",
        )
    return facts


def ask(target: Target, job: dict[str, Any], feed: Iterable[bytes] = ()) -> dict[str, Any]:
    """What :mod:`edgekit.devices.targets.remote` answers to ``job``, and to ``feed`` after it, on ``target``.

    Raises ``TargetError``: no Python there, a disk that is full or cannot be written, a step that hangs.
    """
    done = target.run(_command(), _with(job, feed), step=_STEPS[job["do"]])
    if done.code == _NO_PYTHON:
        found = " ".join(done.out.decode(errors="replace").split())
        least = ".".join(map(str, LEAST_PYTHON))
        raise TargetError(
            f"{target.name}: Python",
            found=found,
            expected=f"{least} or newer",
            fix="Install it there (Debian 12, Raspberry Pi OS 12 and newer have it).",
        )
    answer = last_answer(target, done.out, done.err, done.code)
    if "error" in answer:
        raise TargetError(f"{target.name}: {answer['where']}", found=answer["error"], fix="Free space there.")
    return answer


def last_answer(target: Target, out: bytes, err: str, code: int) -> dict[str, Any]:
    """The JSON of the last line of ``out``. Raises ``TargetError`` where a program ended without one."""
    lines = out.splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (err.strip().splitlines() or [f"exit {code}"])[-1]
        raise TargetError(
            f"{target.name}: a program there ended early", found=last, fix="One that was killed ran out of memory."
        ) from None
    return answer


def _with(job: dict[str, Any], feed: Iterable[bytes]) -> Iterable[bytes]:
    yield json.dumps(job).encode() + b"\n"
    yield from feed


@cache
def _command() -> str:
    script = Path(str(remote.__file__)).read_text("utf-8")
    return _FIND.format(least=LEAST_PYTHON, script=shlex.quote(script))
