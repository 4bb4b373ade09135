"""What this machine is. Reads /proc and /sys; what a machine does not show is None, never a guess."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

from edgekit._version import __version__
from edgekit.runtimes.isa import cpu_flags, cpu_model, detect
from edgekit.runtimes.threads import cgroup_quota, usable_cpus

# What INT8 and float kernels ask for; the other hundred flags of a processor say nothing about us.
TELLING_FLAGS = [
    *("sse4_1", "ssse3", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "neon", "asimddp", "asimdhp", "fphp", "i8mm", "bf16", "sve", "sve2", "hypervisor"),
]
PACKAGES = (
    *("numpy", "tokenizers", "onnxruntime", "openvino", "ai-edge-litert", "tflite-runtime"),
    *("torch", "transformers", "onnx", "nncf", "litert-torch", "ai-edge-quantizer"),
)


def environment(root: Path = Path("/")) -> dict[str, Any]:
    """The machine and the versions, as profiles and bundles carry them. ``root`` is where /proc and /sys are.

    Memory in MB (10**6 bytes), frequency in MHz, temperature in degrees Celsius.
    """
    flags = cpu_flags(root)
    return {
        "cpu": cpu_model(root),
        "architecture": platform.machine(),
        "isa": detect(root),
        "flags": [flag for flag in TELLING_FLAGS if flag in flags],
        "virtual": "hypervisor" in flags,
        "cpus": os.cpu_count(),
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cgroup_cpus": cgroup_quota(root),
        "usable_cpus": usable_cpus(root),
        "memory_mb": memory_mb(root),
        "memory_limit_mb": memory_limit_mb(root),
        "governor": _text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "frequency_mhz": frequency_mhz(root),
        "temperature_c": temperature_c(root),
        "load_average": _load_average(),
        "os": os_name(root),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "edgekit": __version__,
        "versions": versions(PACKAGES),
    }


def versions(names: tuple[str, ...] | list[str]) -> dict[str, str]:
    """Installed versions of the packages among ``names``; none is imported."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def memory_mb(root: Path = Path("/")) -> float | None:
    """Memory of the machine."""
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return None


def memory_limit_mb(root: Path = Path("/")) -> float | None:
    """The cgroup's memory limit (v2, else v1); None without one."""
    for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _text(root / name)
        if text and text.isdigit() and int(text) < 1 << 60:
            return round(int(text) / 1e6, 1)
    return None


def frequency_mhz(root: Path = Path("/")) -> dict[str, float] | None:
    """Current, lowest and highest clock of the first processor."""
    folder = root / "sys/devices/system/cpu/cpu0/cpufreq"
    names = {"current": "scaling_cur_freq", "min": "scaling_min_freq", "max": "scaling_max_freq"}
    found = {key: text for key, name in names.items() if (text := _text(folder / name)) and text.isdigit()}
    return {key: int(text) / 1000 for key, text in found.items()} or None


def temperature_c(root: Path = Path("/")) -> float | None:
    """The hottest thermal zone."""
    zones = (_text(zone / "temp") for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")))
    values = [int(text) / 1000 for text in zones if text and text.lstrip("-").isdigit()]
    return max(values, default=None)


def os_name(root: Path = Path("/")) -> str:
    """Such as ``Debian GNU/Linux 12 (bookworm)``."""
    for line in (_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip().strip('"')
    return f"{platform.system()} {platform.release()}" if sys.platform != "linux" else "Linux"


def _load_average() -> list[float] | None:
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (OSError, AttributeError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None
