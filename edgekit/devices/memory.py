"""What a bundle needs in memory, measured in a process that holds nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.devices.child import run_child


def model_rss_bytes(bundle: Path, threads: int, texts: Sequence[str], file: str | None = None) -> int | None:
    """Peak resident bytes of a fresh process that loads ``bundle`` and answers ``texts`` one by one.

    Python, numpy and the engine are in it. None where the kernel does not tell. Raises InputError, EngineError.
    """
    taken = run_child({"bundle": str(bundle), "file": file, "threads": threads, "texts": list(texts)})
    peak = taken["rss_mb"]
    return None if peak is None else int(peak * 1e6)
