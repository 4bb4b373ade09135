"""Before a picture set is used: each picture is read once, and what cannot be read is left out and stated."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from edgekit.data.pictures import UNREADABLE, EncodedPictures, check_size
from edgekit.data.tables import count
from edgekit.errors import DataError

MOST_UNREADABLE = 0.01  # share of the pictures; more than that is a wrong folder or a broken copy
_SHOWN = 3


def read_all(
    names: Sequence[str], items: Sequence[Path | bytes], where: str, *, shown: str
) -> tuple[EncodedPictures, list[int], list[str]]:
    """The pictures that decode, their rows, and the rule that states the others. Names must be unique.

    ``where`` is what error messages call the set (with its path), ``shown`` what rules call it. Every picture is
    decoded once (JPEG at an eighth of its size, which reads all of its data). DataError where more than
    ``MOST_UNREADABLE`` of them are missing or broken, or none is left.
    """
    if not items:
        raise DataError(where, found="no pictures", expected="at least one", fix="Check the path.")
    # Pillow lets go of the interpreter while it decodes.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(_digest, items))
    kept = [row for row, (digest, _) in enumerate(found) if digest]
    bad = [(names[row], reason) for row, (digest, reason) in enumerate(found) if not digest]
    listed = "; ".join(f"{name}: {reason}" for name, reason in bad[:_SHOWN]) + ("; ..." if len(bad) > _SHOWN else "")
    if len(bad) > MOST_UNREADABLE * len(items):
        raise DataError(
            where,
            found=f"{len(bad):,} of {len(items):,} pictures missing or unreadable ({listed})",
            expected=f"at most {MOST_UNREADABLE:.0%} of them",
            fix="Check the folder of the pictures, or take their rows out.",
        )
    rules = [f"{shown}: {count(len(bad), 'picture')} left out, missing or unreadable ({listed})"] if bad else []
    pictures = EncodedPictures(
        [names[row] for row in kept], [items[row] for row in kept], [found[row][0] for row in kept]
    )
    return pictures, kept, rules


def _digest(item: Path | bytes) -> tuple[str, str]:
    """sha256 of a picture's bytes, or "" and why it cannot be read."""
    try:
        raw = item if isinstance(item, bytes) else item.read_bytes()
        with Image.open(io.BytesIO(raw)) as image:
            check_size(image)
            image.draft("RGB", (1, 1))
            image.load()
    except FileNotFoundError:
        return "", "no such file"
    except UNREADABLE as error:
        reason = "no picture" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        return "", reason or type(error).__name__
    return hashlib.sha256(raw).hexdigest(), ""
