"""Time of each operator of several model files, each in a fresh process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.devices import select
from edgekit.devices.child import run_child
from edgekit.devices.operators.work import ADAPTERS, NONE
from edgekit.errors import EngineError
from edgekit.progress import Progress, Silent

RUNS = 20


def measure(
    jobs: Sequence[dict[str, Any]], runs: int = RUNS, warmup: int = RUNS, progress: Progress = Silent()
) -> list[dict[str, Any]]:
    """``ops`` of docs/profile.schema.json, one entry a job (of :func:`edgekit.devices.select.jobs`).

    Where it was not measured, ``rows`` is empty and ``reason`` says why. Raises InputError.
    """
    handle = progress.start("operators", len(jobs))
    found = []
    for job in jobs:
        entry: dict[str, Any] = {"rows": [], "providers": []}
        reason = ""
        if job["engine"] not in ADAPTERS:
            reason = NONE.format(job["engine"])
        else:
            try:
                entry = run_child({**job, "ops": runs, "warmup": warmup})
            except EngineError as error:
                reason = str(error)
        named = {key: job.get(key) for key in ("file", "engine", "threads", "length", "tower")}
        found.append({**named, "runs": None if reason else runs, "reason": reason, **entry})
        progress.advance(handle, note=select.told(job))
    progress.finish(handle)
    return found


def wanted(jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of ``jobs``, one for each file, engine and tower: the fewest threads, the smallest batch, the longest input."""
    first: dict[tuple[str, str, str], dict[str, Any]] = {}
    for job in sorted(jobs, key=lambda job: (job["threads"], job["batch"], -(job["length"] or 0))):
        first.setdefault((job["file"], job["engine"], job.get("tower", "")), job)
    return list(first.values())
