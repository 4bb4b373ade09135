"""What model files are timed on when that is not this machine. The pipeline knows no more of it than this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Timed(Protocol):
    """``samples_ms``: input to answer, float64 (n,); ``rss_bytes``: peak of a fresh process, None where not known."""

    @property
    def samples_ms(self) -> NDArray[np.float64]: ...

    @property
    def rss_bytes(self) -> int | None: ...


class Device(Protocol):
    """A board, or what stands for one. ``basis``: "measured", or "estimated" from what was measured before."""

    name: str
    basis: str

    def time(self, folders: Mapping[str, Path], examples: Sequence[Any], threads: int) -> Mapping[str, Timed]:
        """Every artifact folder (:mod:`edgekit.runtimes.artifact`) by name, on ``examples``, at batch 1, in turns.

        Raises ``TargetError`` where the board cannot be reached, ``EngineError`` for a file that does not run there.
        """
