"""``--device``: a board, or the name of a kept profile, as what model files are timed on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.progress import Progress

if TYPE_CHECKING:
    from edgekit.compress.device import Device
    from edgekit.recipe import Recipe


@contextmanager
def device_of(
    text: str | None, recipe: Recipe, directory: str, wheels: Path | None, silence: float | None, progress: Progress
) -> Iterator[Device | None]:
    """What ``text`` names: ``ssh://user@host[:port]``, a kept profile, or (None) no device."""
    if text is None:
        yield None
    elif "://" in text or text == "local":
        from edgekit.devices.targets import open_target
        from edgekit.devices.targets.timing import Board

        with open_target(text, silence) as target:
            yield Board(target, recipe.engines, recipe.task == "clip", directory, wheels, progress)
    else:
        from edgekit.devices.targets.stored import Estimated

        yield Estimated(text, progress)
