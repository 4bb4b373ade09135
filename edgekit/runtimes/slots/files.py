"""Every change that slots make on disk goes through here: one method a system call, so that a test can cut in anywhere.

What must survive a power cut is synced as POSIX asks: a file's data by fsync of the file, its name by fsync of the
folder that holds it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

CHUNK = 1 << 20


class Files:
    """The calls that change a disk. Each raises ``OSError``."""

    def mkdir(self, path: Path) -> None:
        """Make a folder."""
        os.mkdir(path)

    def create(self, path: Path) -> int:
        """Make an empty file, or empty it; returns its descriptor, open for writing."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append; returns the bytes that were taken."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Wait until the file's data are on the disk."""
        os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Give ``old`` the name ``new``; a file of that name is replaced in the same step."""
        os.rename(old, new)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        os.rmdir(path)


def put(files: Files, path: Path, data: bytes) -> None:
    """Let ``path`` hold ``data``, or what it held before, whenever the power goes. Raises ``OSError``."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        _fill(files, beside, [data])
        files.rename(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            files.unlink(beside)
        raise
    files.sync_folder(path.parent)


def copy_tree(files: Files, source: Path, target: Path, names: list[str]) -> None:
    """Copy the files ``names`` of ``source`` to the new folder ``target`` and sync them all. Raises ``OSError``."""
    folders = {target}
    files.mkdir(target)
    for name in sorted(names):
        path = target / name
        for folder in reversed(path.relative_to(target).parents):
            if target / folder not in folders:
                files.mkdir(target / folder)
                folders.add(target / folder)
        with open(source / name, "rb") as opened:
            _fill(files, path, iter(partial(opened.read, CHUNK), b""))
    for folder in sorted(folders, key=lambda one: -len(one.parts)):
        files.sync_folder(folder)


def remove(files: Files, path: Path) -> None:
    """Remove a file, or a folder with all that is in it; a link is removed, not followed. Raises ``OSError``."""
    if path.is_symlink() or not path.is_dir():
        files.unlink(path)
        return
    for one in sorted(path.iterdir()):
        remove(files, one)
    files.rmdir(path)


def _fill(files: Files, path: Path, chunks: Iterable[bytes]) -> None:
    descriptor = files.create(path)
    try:
        for chunk in chunks:
            left = memoryview(chunk)
            while left:
                left = left[files.write(descriptor, left) :]
        files.sync(descriptor)
    finally:
        os.close(descriptor)
