"""A machine that commands can be run on. Sending and fetching are commands too, so one method is all it takes."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from edgekit.errors import TargetError

Heard = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit status, standard output, and standard error."""

    code: int
    out: bytes
    err: str


class Target(Protocol):
    """``name``: as the user gave it. A context manager: what it holds open ends with it."""

    name: str

    def run(self, command: str, feed: Iterable[bytes] = (), heard: Heard | None = None) -> Done:
        """Run ``command`` in the target's POSIX shell with ``feed`` as its standard input.

        ``heard`` gets each line of its standard output as it comes. Raises ``TargetError`` where the target cannot be
        reached or the connection ends; a command that fails is no error here.
        """

    def fetch(self, path: str) -> bytes:
        """The bytes of a file, by its absolute path. Raises ``TargetError``."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of the target."""


class Local:
    """This machine, as a target like any other."""

    name = "local"

    def run(self, command: str, feed: Iterable[bytes] = (), heard: Heard | None = None) -> Done:
        return run_process(["sh", "-c", command], feed, heard)

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


def run_process(arguments: list[str], feed: Iterable[bytes], heard: Heard | None) -> Done:
    """A process, fed and listened to until it ends. If we are interrupted, so is it."""
    out: list[bytes] = []
    # Not a pipe: ssh's master process inherits standard error and keeps it open after the command has ended.
    with tempfile.TemporaryFile() as err:
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err)
        assert process.stdin is not None and process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended early; how it ended says why
                for chunk in feed:
                    process.stdin.write(chunk)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            for line in process.stdout:
                out.append(line)
                if heard is not None:
                    heard(line.decode(errors="replace"))
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()
        err.seek(0)
        return Done(code, b"".join(out), err.read().decode(errors="replace"))
