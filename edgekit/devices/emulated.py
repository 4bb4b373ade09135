"""Whether this machine's processor is emulated: then nothing that takes time on it may be told as a time."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

VARIABLE = "EDGEKIT_EMULATED"  # a word for the emulator, where a machine cannot find out by itself
NO_TIMING = "emulated: no timing"
_FROM_TIMES = ("utilisation", "warmup_stable", "energy_mj")


def emulation(root: Path = Path("/")) -> str:
    """What emulates this process: "qemu-aarch64-static" under qemu-user, else $EDGEKIT_EMULATED; "" for a processor.

    qemu-user answers for /proc/self/exe in the program's name; for a thread's exe the kernel does, with its own.
    A whole machine under emulation looks to its programs like a virtual one: only the variable tells.
    """
    declared = os.environ.get(VARIABLE, "")
    try:
        exe = os.readlink(root / f"proc/self/task/{threading.get_native_id()}/exe")
    except OSError:
        return declared
    name = Path(exe.removesuffix(" (deleted)")).name
    return name if name.startswith("qemu-") else declared


def without_times(profile: dict[str, Any]) -> dict[str, Any]:
    """``profile`` (:meth:`edgekit.devices.profiler.Profile.to_dict`) as one of an emulated machine: no time is left."""
    rows = [{key: _untimed(key, value) for key, value in row.items()} for row in profile["rows"]]
    choice = {**(profile["choice"] or {}), "why": NO_TIMING}
    if rows:
        choice |= {key: rows[0][key] for key in ("engine", "file", "threads")}
    return {**profile, "basis": "emulated", "rows": rows, "choice": choice, "sustain": None, "ops": []}


def _untimed(key: str, value: Any) -> Any:
    if key == "samples_ms":
        return []
    return None if key.endswith("_ms") or key in _FROM_TIMES else value
