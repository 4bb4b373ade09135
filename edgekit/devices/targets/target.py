"""A machine that commands can be run on. Sending and fetching are commands too, so one method is all it takes."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

from edgekit.devices.targets.process import SILENCE_S, Done, Heard, Step, run_process
from edgekit.errors import TargetError


class Target(Protocol):
    """``name``: as the user gave it. A context manager: what it holds open ends with it."""

    name: str

    def run(
        self, command: str, feed: Iterable[bytes] = (), heard: Heard | None = None, step: Step | None = None
    ) -> Done:
        """Run ``command`` in the target's POSIX shell with ``feed`` as its standard input.

        ``heard`` gets each line of its standard output as it comes; ``step`` names the command for errors, and says
        how long it may be silent. Raises ``TargetError`` where the target cannot be reached or the connection ends,
        ``SilenceError`` where it falls silent; a command that fails is no error here.
        """

    def fetch(self, path: str) -> bytes:
        """The bytes of a file, by its absolute path. Raises ``TargetError``."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of the target."""


class Local:
    """This machine, as a target like any other."""

    name = "local"

    def __init__(self, silence_s: float = SILENCE_S) -> None:
        self._silence_s = silence_s

    def run(
        self, command: str, feed: Iterable[bytes] = (), heard: Heard | None = None, step: Step | None = None
    ) -> Done:
        return run_process(["sh", "-c", command], feed, heard, self.name, self._silence_s, step)

    def fetch(self, path: str) -> bytes:
        return fetched(self, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None


def fetched(target: Target, path: str) -> bytes:
    """:meth:`Target.fetch` by way of :meth:`Target.run`."""
    import shlex

    done = target.run(f"cat {shlex.quote(path)}")
    if done.code:
        raise TargetError(f"{target.name}: {path}", found=done.err.strip() or f"exit {done.code}", expected="a file")
    return done.out
