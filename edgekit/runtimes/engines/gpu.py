"""Which NVIDIA GPU and TensorRT this machine has, asked of their own libraries. Not run here on such a machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBCUDA = "libcuda.so.1"
LIBNVINFER = ("libnvinfer.so", "libnvinfer.so.11", "libnvinfer.so.10", "libnvinfer.so.8")
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h
UNKNOWN = "unknown"
Open = Callable[[str], Any]


def is_jetson(root: Path = Path("/")) -> bool:
    """Whether this is an NVIDIA Tegra board: by its device tree, else by the file that Jetson Linux leaves."""
    try:
        names = (root / "proc/device-tree/compatible").read_bytes()
    except OSError:
        names = b""
    return (
        any(name.startswith(b"nvidia,tegra") for name in names.split(b"\0"))
        or (root / "etc/nv_tegra_release").is_file()
    )


def architecture(opened: Open = ctypes.CDLL) -> str:
    """The first GPU's, such as "sm_87", by CUDA's driver API; "unknown" where there is none."""
    try:
        cuda = opened(LIBCUDA)
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        done = [
            cuda.cuInit(0),
            cuda.cuDeviceGet(ctypes.byref(device), 0),
            cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
            cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
        ]
    except (OSError, AttributeError):
        return UNKNOWN
    return UNKNOWN if any(done) else f"sm_{major.value}{minor.value}"


def tensorrt_version(opened: Open = ctypes.CDLL) -> str:
    """TensorRT's, such as "10.3.0", by ``getInferLibVersion``; "unknown" where there is none."""
    for name in LIBNVINFER:
        try:
            return version_of(int(opened(name).getInferLibVersion()))
        except (OSError, AttributeError):
            continue
    return UNKNOWN


def version_of(number: int) -> str:
    """``getInferLibVersion``'s number as text: 8502 is 8.5.2; from TensorRT 10 on 100300 is 10.3.0."""
    if number >= 100_000:
        return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"
