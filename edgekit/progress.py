"""How long steps tell what they are doing, without knowing who is listening."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """A listener. ``start`` opens a bar, ``advance`` moves it, ``finish`` closes it, ``say`` writes one line."""

    def start(self, label: str, total: int) -> int:
        """Open a bar of ``total`` steps; returns its handle."""

    def advance(self, handle: int, steps: int = 1, note: str = "") -> None:
        """Move bar ``handle`` on by ``steps``."""

    def finish(self, handle: int) -> None:
        """Close bar ``handle``."""

    def say(self, line: str) -> None:
        """One line for the person who waits."""


class Silent:
    """The listener of library callers who gave none."""

    def start(self, label: str, total: int) -> int:
        return 0

    def advance(self, handle: int, steps: int = 1, note: str = "") -> None:
        return None

    def finish(self, handle: int) -> None:
        return None

    def say(self, line: str) -> None:
        return None


def track(progress: Progress, label: str, items: Iterable[T], total: int) -> Iterator[T]:
    """Yield ``items`` while a bar of ``total`` steps moves with them."""
    handle = progress.start(label, total)
    try:
        for item in items:
            yield item
            progress.advance(handle)
    finally:
        progress.finish(handle)
