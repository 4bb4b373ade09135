"""The profile of a board that is only emulated here: what it answers and how many instructions that takes, no time."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgekit._version import __version__
from edgekit.bundle import open_bundle
from edgekit.devices import emulate, instructions
from edgekit.devices.boards import load
from edgekit.devices.emulated import without_times
from edgekit.devices.profiler import created, manifest_sha256
from edgekit.devices.userland import wheels
from edgekit.errors import EngineError
from edgekit.progress import Progress, Silent

BOARDS = {"cortex-a72": "pi4", "cortex-a76": "pi5"}
_TIMES = ("load_ms", "first_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms")


def profile(path: str | Path, cpu: str, progress: Progress = Silent()) -> dict[str, Any]:
    """A profile as of :func:`edgekit.devices.targets.measure.profile`, of the bundle at ``path`` on ``cpu`` under qemu.

    Each row has ``instructions_m`` and ``dot_products_m`` of the longest golden text (or first picture), one thread;
    every time is None. Raises as :func:`edgekit.devices.instructions.count`, ``EngineError`` when no file could run.
    """
    bundle = open_bundle(path)
    counts = instructions.count(path, [cpu], progress=progress)
    verified = emulate.verify(path, [cpu], progress)
    rows: list[dict[str, Any]] = [
        {
            "engine": one.engine,
            "file": one.file,
            "precision": one.precision,
            "threads": 1,
            "batch": 1,
            "length": None,
            **dict.fromkeys(_TIMES),
            "rss_mb": None,
            "instructions_m": one.instructions_m,
            "dot_products_m": one.dot_products_m,
            "samples_ms": [],
        }
        for one in counts
        if not one.reason
    ]
    failed = [{"file": one.file, "engine": one.engine, "cause": one.reason} for one in counts if one.reason]
    if not rows:
        causes = "; ".join(one["cause"] for one in failed)
        raise EngineError(f"nothing of {bundle.root.name} runs on {cpu}", found=causes)
    board = load(BOARDS[cpu])
    return without_times(
        {
            "schema_version": 1,
            "bundle": str(path),
            "bundle_sha256": manifest_sha256(bundle),
            "target": "local",
            "board": board.key,
            "created": created(),
            "environment": {
                "cpu": f"{cpu}, as in a {board.name}",
                "architecture": board.architecture,
                "isa": emulate.isa_of(cpu),
                "flags": [],
                "edgekit": __version__,
                "versions": wheels(),
                "emulator": "qemu-user",
            },
            "rows": rows,
            "choice": {"why": ""},
            "failed": failed,
            "verified": asdict(verified),
        }
    )
