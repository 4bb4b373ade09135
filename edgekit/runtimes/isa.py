"""The instruction set that decides how INT8 kernels round, so golden vectors can hold a tolerance for each."""

from __future__ import annotations

import platform
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
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()


def detect(root: Path = Path("/"), machine: str | None = None) -> str:
    """Such as ``x86_64-avx512_vnni`` or ``aarch64-dotprod``: the architecture and its widest INT8 feature."""
    machine = (machine or platform.machine()).lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    flags = cpu_flags(root)
    for name, needed in _X86 if machine == "x86_64" else _ARM:
        if flags.issuperset(needed):
            return f"{machine}-{name}"
    return f"{machine}-base"
