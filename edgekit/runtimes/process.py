"""This process: what a new one needs to find the same edgekit, and free memory that goes back to the system."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import edgekit.errors as errors


def environment() -> dict[str, str]:
    """This process's environment, with the folder that holds edgekit first in ``PYTHONPATH``."""
    package = str(Path(errors.__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{known}" if known else package}


_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # glibc alone has it


def give_back() -> None:
    """Return memory that was freed to the system, where the C library is glibc; elsewhere it does nothing.

    A session that is opened on a thread of its own leaves its freed pages in that thread's arena, some 20 MB each time.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)
