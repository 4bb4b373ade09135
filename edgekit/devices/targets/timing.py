"""Model files timed on a board while they are made: what ``edgekit compress --device`` gives the pipeline."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.devices.examples import to_json
from edgekit.devices.targets.board import FOLDER, look
from edgekit.devices.targets.deploy import command
from edgekit.devices.targets.runtime import WHEEL_OF, Runtime, install
from edgekit.devices.targets.target import Target
from edgekit.devices.targets.transfer import compare, need, send
from edgekit.errors import EngineError, InputError
from edgekit.progress import Progress, Silent
from edgekit.runtimes import artifact
from edgekit.runtimes.prompts import NAME as PROMPTS

ROUNDS, WARMUP = 4, 10  # as the gates time here


@dataclass(frozen=True)
class Timed:
    """``samples_ms``: input to answer, float64 (n,); ``rss_bytes``: peak of a fresh process, None where not told."""

    samples_ms: NDArray[np.float64]
    rss_bytes: int | None = None


class Board:
    """A target as the pipeline's device (:class:`edgekit.compress.device.Device`): files are sent, timed, replaced."""

    basis = "measured"

    def __init__(
        self,
        target: Target,
        engines: Iterable[str],
        pictures: bool = False,
        folder: str = FOLDER,
        wheels: Path | None = None,
        progress: Progress = Silent(),
    ) -> None:
        """Make a runtime for ``engines`` on ``target``, with what ``pictures`` take. Raises as a deployment does."""
        self.name, self._target, self._progress = target.name, target, progress
        facts = look(target, folder)
        wanted = list(dict.fromkeys(one for name in engines if (one := _runs(name))))
        self._runtime: Runtime = install(target, facts, wanted, pictures, wheels=wheels, progress=progress)
        self._store = f"{facts.root}/candidates"

    def time(self, folders: Mapping[str, Path], examples: Sequence[Any], threads: int) -> dict[str, Timed]:
        """Every artifact folder by name on ``examples``, one by one, in turns.

        Raises ``InputError`` for an emulated board, ``EngineError`` for a file that does not run there,
        ``TargetError``.
        """
        models: dict[str, dict[str, str]] = {}
        files: dict[str, Path] = {}
        for name, folder in folders.items():
            models[name] = {one: _digest(folder / one) for one in _needed(folder)}
            files |= {digest: folder / one for one, digest in models[name].items()}
        plan = compare(self._target, self._store, files)
        need(self._target, "the files to time", plan.bytes, plan.free)
        send(self._target, plan, f"candidates to {self.name}", self._progress)
        job = {
            "do": "time",
            "store": self._store,
            "models": models,
            "examples": [to_json(one) for one in examples],
            "threads": threads,
            "rounds": ROUNDS,
            "warmup": WARMUP,
        }
        answer = command(self._target, self._runtime, job, self._progress)
        if answer["emulator"]:
            raise InputError(
                f"--device {self.name}",
                found=f"emulated by {answer['emulator']}: no timing",
                expected="a board whose times mean something",
            )
        found = {}
        for name, one in answer["timed"].items():
            rss = one["rss_mb"]
            found[name] = Timed(np.array(one["samples_ms"], np.float64), None if rss is None else int(rss * 1e6))
        if len(found) < len(folders):
            raise EngineError(f"{self.name}: candidates", found=", ".join(found), expected=", ".join(folders))
        return found


def _runs(engine: str) -> str:
    """The engine with wheels for boards that runs files made for ``engine``; "" for none."""
    from edgekit.runtimes.engines import readers

    return next((name for name in readers(engine) if name in WHEEL_OF), "")


def _needed(folder: Path) -> list[str]:
    """Names of the files that the runtime opens in an artifact folder."""
    beside = (artifact.NAME, "task.json", artifact.TOKENIZER, PROMPTS)
    return [*artifact.read(folder).files, *(name for name in beside if (folder / name).is_file())]


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
