"""What a bundle needs in memory, measured in a process that holds nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.devices.child import run_child
from edgekit.devices.examples import to_json


def model_rss_bytes(bundle: Path, threads: int, examples: Sequence[Any], file: str | None = None) -> int | None:
    """Peak resident bytes of a fresh process that loads ``bundle`` and answers ``examples`` one by one.

    An example is a text, or a picture uint8 (H, W, 3) with a caption.
    Python, numpy and the engine are in it. None where the kernel does not tell. Raises InputError, EngineError.
    """
    given = [to_json(one) for one in examples]
    taken = run_child({"bundle": str(bundle), "file": file, "threads": threads, "examples": given})
    peak = taken["rss_mb"]
    return None if peak is None else int(peak * 1e6)
