"""Small C sources of ours, compiled on first use into the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from edgekit.cache import cache_dir


def library(source: Path) -> Path | str:
    """The shared library of ``source``, or the reason why it cannot be had."""
    text = source.read_bytes()
    target = cache_dir().resolve() / source.stem / f"{hashlib.sha256(text).hexdigest()[:16]}.so"
    if target.is_file():
        return target
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return f"no C compiler (cc, gcc or clang) to build {source.name} with"
    beside = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(beside), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            return f"{compiler} cannot build {source.name}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
        beside.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{source.name} cannot be built: {error}"
    finally:
        beside.unlink(missing_ok=True)
    return target
