"""OpenVINO's model cache: a compiled model beside the bundle, made by ``edgekit prepare`` and by nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgekit.cache import cache_dir, private
from edgekit.errors import InputError
from edgekit.runtimes import isa


def folder_of(path: Path, version: str) -> Path:
    """Where the compiled model of ``path`` (an .xml) lies, or will: by OpenVINO's version, processor and content.

    By its place too, since OpenVINO looks its file up by that.
    """
    digest = hashlib.sha256(str(path.resolve()).encode())
    for part in (path, path.with_suffix(".bin")):
        if part.is_file():
            digest.update(hashlib.sha256(part.read_bytes()).digest())
    plain = "".join(one if one.isalnum() or one in "._" else "-" for one in version.split("-")[0])
    return _top() / f"{plain}-{isa.detect()}-{digest.hexdigest()[:24]}"


def prepared(path: Path, version: str) -> str:
    """The folder for ``CACHE_DIR``; "" where nothing was prepared, or where others could have written it."""
    if not _top().is_dir():
        return ""
    try:
        folder = folder_of(path, version)
        return str(private(folder)) if folder.is_dir() else ""
    except (InputError, OSError):  # slower, and right
        return ""


def _top() -> Path:
    return cache_dir() / "openvino"
