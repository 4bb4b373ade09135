"""The instruction set that decides how INT8 kernels round, so golden vectors can hold a tolerance for each."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

# (name, flags that the kernel shows), the widest first. INT8 results depend on which of these kernels runs:
# without VNNI, x86 kernels saturate 16-bit sums; ARM's dot-product and i8mm kernels accumulate in another order.
_X86 = [
    ("amx_int8", ["amx_int8", "amx_tile"]),
    ("avx512_vnni", ["avx512_vnni", "avx512f"]),
    ("avx_vnni", ["avx_vnni"]),
    ("avx512", ["avx512f", "avx512bw"]),
    ("avx2", ["avx2"]),
]
_ARM = [("i8mm", ["i8mm"]), ("dotprod", ["asimddp"]), ("neon", ["asimd"]), ("neon", ["neon"])]


def cpu_flags(root: Path = Path("/")) -> frozenset[str]:
    """Feature flags of the first processor in ``/proc/cpuinfo``; empty where the kernel shows none."""
    for key, value in _cpuinfo(root):
        if key in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()


def cpu_model(root: Path = Path("/")) -> str:
    """The processor's name; on boards whose /proc/cpuinfo has none, the board's."""
    found: dict[str, str] = {}
    for key, value in _cpuinfo(root):
        if key == "model name" and value and not value.isdigit():
            return value
        found.setdefault(key, value)
    for key in ("hardware", "model"):
        if found.get(key) and not found[key].isdigit():
            return found[key]
    try:
        board = (root / "proc/device-tree/model").read_text(errors="replace").strip("\0 \n")
    except OSError:
        board = ""
    return board or platform.processor() or platform.machine()


def detect(root: Path = Path("/"), machine: str | None = None) -> str:
    """Such as ``x86_64-avx512_vnni`` or ``aarch64-dotprod``: the architecture and its widest INT8 feature."""
    machine = (machine or platform.machine()).lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    flags = cpu_flags(root)
    for name, needed in _X86 if machine == "x86_64" else _ARM:
        if flags.issuperset(needed):
            return f"{machine}-{name}"
    return f"{machine}-base"


def machine(root: Path = Path("/")) -> dict[str, str]:
    """What a figure that was measured here is named by: ``cpu`` (:func:`cpu_model`) and ``isa`` (:func:`detect`)."""
    return {"cpu": cpu_model(root), "isa": detect(root)}


def machine_name() -> str:
    """:func:`machine` in a line."""
    return ", ".join(machine().values())


def saturates(isa: str | None = None) -> bool:
    """Whether INT8 products on ``isa`` (this machine's unless given) add pairs in 16 bits, which codes of 8 bits can
    overflow: x86 without VNNI."""
    return (isa or detect()) in ("x86_64-avx512", "x86_64-avx2", "x86_64-base")


def _cpuinfo(root: Path) -> Iterator[tuple[str, str]]:
    """(key, value) of each line, read no further than is asked for: a server writes one block a processor."""
    try:
        with open(root / "proc/cpuinfo", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                yield key.strip().lower(), value.strip()
    except OSError:
        return
