"""Where edgekit keeps what it fetched or computed."""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.errors import InputError


def cache_dir() -> Path:
    """The cache folder, not made yet: $EDGEKIT_CACHE, else $XDG_CACHE_HOME/edgekit, else ~/.cache/edgekit."""
    own = os.environ.get("EDGEKIT_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "edgekit"


def private(folder: Path) -> Path:
    """Make ``folder`` below the cache for this user alone, and return it. What lies there is run without a signature.

    Raises ``InputError`` where somebody else could write it: it, or a folder above up to the cache, is another's, or
    open to all.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        top = cache_dir()
        for one in (folder, *folder.parents):
            found = one.stat()
            if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o002:
                fix = f"chmod o-w {one}, or name another folder in EDGEKIT_CACHE."
                raise InputError(str(one), found="a folder that others can write", expected="your own", fix=fix)
            if one == top:
                break
    except OSError as error:
        fix = "Name a folder that can be written in EDGEKIT_CACHE."
        raise InputError(
            str(folder), found=error.strerror or str(error), expected="a folder to write", fix=fix
        ) from None
    return folder
