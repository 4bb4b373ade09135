"""Profiles of boards that are kept, and times that are estimated from them where the board is not at hand.

A kept profile is one of the board and one of this machine, of the same bundle: what the board took of what this machine
takes, engine by engine and precision by precision, carries over to other models as far as they are alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from edgekit.cache import cache_dir
from edgekit.devices.targets.timing import ROUNDS, WARMUP, Timed
from edgekit.errors import InputError
from edgekit.progress import Progress, Silent
from edgekit.runtimes import artifact
from edgekit.runtimes.timing import interleaved

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SAME = ("file", "engine", "threads", "batch", "length", "tower")  # rows that are of the same work
_FIX = "edgekit profile BUNDLE --target ssh://user@host --keep NAME"


def place(name: str) -> Path:
    """Where the profile of the board ``name`` is kept. Raises ``InputError`` for what is no name."""
    if _NAME.fullmatch(name) is None:
        raise InputError(f"device {name[:80]!r}", expected="ssh://user@host[:port], or the name of a kept profile")
    return cache_dir() / "profiles" / f"{name}.json"


def keep(name: str, board: dict[str, Any], here: dict[str, Any]) -> Path:
    """Keep the profile of ``board`` and that of this machine, ``here``, under ``name``; returns the file.

    Raises ``InputError`` for an emulated board, and where no row of the two is of the same work.
    """
    path = place(name)
    if board["basis"] != "measured":
        raise InputError(f"--keep {name}", found="emulated: no timing", expected="a profile that was measured")
    _ratios({"board": board, "here": here}, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps({"schema_version": 1, "board": board, "here": here}), "utf-8")
    beside.replace(path)
    return path


def names() -> list[str]:
    """Of the boards whose profiles are kept."""
    return sorted(path.stem for path in (cache_dir() / "profiles").glob("*.json"))


class Estimated:
    """What the pipeline takes for a board whose profile is kept (:class:`edgekit.compress.device.Device`).

    Times are those of this machine, times what the board took of them.
    """

    basis = "estimated"

    def __init__(self, name: str, progress: Progress = Silent()) -> None:
        """Raises ``InputError`` where no profile of ``name`` is kept, or none that can be read."""
        self.name, self._progress, path = name, progress, place(name)
        if not path.is_file():
            have = ", ".join(names())
            raise InputError(f"device {name}", found="no kept profile", expected=have or "one", fix=_FIX)
        try:
            self._ratio = _ratios(json.loads(path.read_text("utf-8")), name)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read", found=str(error)[:100], fix=_FIX) from None

    def time(self, folders: Mapping[str, Path], examples: Sequence[Any], threads: int) -> dict[str, Timed]:
        """Every artifact folder by name, timed here and scaled. Raises ``InputError`` for an engine never measured."""
        ratios = {name: self._of(artifact.read(folder)) for name, folder in folders.items()}
        calls: dict[str, Any] = {name: artifact.load(folder, threads).run for name, folder in folders.items()}
        samples = interleaved(calls, list(examples), ROUNDS, WARMUP, self._progress)
        return {name: Timed(taken * ratios[name]) for name, taken in samples.items()}

    def _of(self, about: artifact.Artifact) -> float:
        found = self._ratio.get((about.engine, about.precision)) or self._ratio.get((about.engine, ""))
        if found is None:
            have = sorted({engine for engine, _ in self._ratio})
            raise InputError(
                f"device {self.name}: engine {about.engine}",
                found="never measured there",
                expected=", ".join(have),
                fix=_FIX,
            )
        return found


def _ratios(kept: dict[str, Any], name: str) -> dict[tuple[str, str], float]:
    """(engine, precision), and (engine, "") for others: the median of the board's time over this machine's."""
    here = {tuple(row.get(key) for key in _SAME): row["p50_ms"] for row in kept["here"]["rows"]}
    found: dict[tuple[str, str], list[float]] = {}
    for row in kept["board"]["rows"]:
        local = here.get(tuple(row.get(key) for key in _SAME))
        if local and row["p50_ms"]:
            for precision in (row["precision"], ""):
                found.setdefault((row["engine"], precision), []).append(row["p50_ms"] / local)
    if not found:
        raise InputError(f"profile {name}", found="no row that was measured on both", expected="the same files on both")
    return {key: median(values) for key, values in found.items()}
