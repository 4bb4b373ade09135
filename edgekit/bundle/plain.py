"""Opening a file that must be a plain one: no link is followed, no pipe or device is waited for."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from edgekit.errors import BundleError

# Not every system has them all; where one lacks, the look before the opening has to do.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_plain(path: Path) -> BufferedReader:
    """``path`` for reading. Raises ``OSError`` (ELOOP for a link, EINVAL for what is not a plain file)."""
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        code = errno.ELOOP if stat.S_ISLNK(found.st_mode) else errno.EINVAL
        raise OSError(code, f"a {kind(found.st_mode)}, not a plain file")
    file = os.fdopen(os.open(path, _FLAGS), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a plain file")
    return file


def read_plain(path: Path, what: str, limit: int) -> bytes:
    """All of ``path``. Raises ``BundleError`` naming ``what`` when it cannot be read or has over ``limit`` bytes."""
    try:
        with open_plain(path) as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise BundleError(f"{what} cannot be read", found=reason(error), expected="a plain file") from None
    if len(data) > limit:
        raise BundleError(what, found=f"more than {limit} bytes", expected=f"at most {limit}")
    return data


def kind(mode: int) -> str:
    """What ``os.lstat`` found, in a word or two."""
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISLNK(mode):
        return "symbolic link"
    return "file" if stat.S_ISREG(mode) else "special file"


def reason(error: Exception) -> str:
    """The system's own words for ``error``, without the path."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
