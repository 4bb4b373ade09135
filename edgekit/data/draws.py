"""Random numbers that depend on a key alone: the same in every process, Python and numpy version."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def seed_of(*key: object) -> int:
    """A number from 0 to 2**63 - 1 made of ``key`` (texts and whole numbers): a seed that fits an int64."""
    text = "\0".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Draws:
    """A stream of draws. Built on ``Random.random`` alone, the one method whose stream Python promises to keep."""

    def __init__(self, *key: object) -> None:
        self._next = random.Random(seed_of(*key)).random

    def share(self) -> float:
        """A number in [0, 1)."""
        return self._next()

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._next()

    def below(self, count: int) -> int:
        """A whole number from 0 to ``count`` - 1."""
        return int(self._next() * count)

    def choice(self, values: Sequence[T]) -> T:
        """One of ``values``."""
        return values[self.below(len(values))]

    def sign(self) -> int:
        """-1 or 1."""
        return 1 if self._next() < 0.5 else -1
