"""How large a bundle's files may be. The manifest states each size: too large a one is refused before it is read."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.bundle.records import FileEntry
from edgekit.errors import BundleError

MAX_FILES = 4096
MAX_TOTAL = 8 << 30  # bytes of all files together: hashing them must end
# Files that are read into memory as a whole. The largest tokenizers that are in use have some 30 MB.
_BY_NAME = {"tokenizer.json": 64 << 20, "golden.safetensors": 256 << 20, "prompts.safetensors": 256 << 20}
MAX_GRAPH = 64 << 20  # of an OpenVINO .xml, which has no weights in it


def check(files: Sequence[FileEntry], where: str) -> None:
    """Raises ``BundleError`` naming the file that is too large, or where there are too many."""
    if len(files) > MAX_FILES:
        raise BundleError(f"{where}: files", found=f"{len(files)} of them", expected=f"at most {MAX_FILES}")
    for entry in files:
        most = MAX_GRAPH if entry.path.endswith(".xml") else _BY_NAME.get(entry.path, MAX_TOTAL)
        if entry.bytes > most:
            raise BundleError(f"{where}: bytes of {entry.path}", found=entry.bytes, expected=f"at most {most}")
    total = sum(entry.bytes for entry in files)
    if total > MAX_TOTAL:
        raise BundleError(f"{where}: files", found=f"{total} bytes", expected=f"at most {MAX_TOTAL} together")
