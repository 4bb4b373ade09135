"""A process that is fed and listened to, and given up when it falls silent."""

from __future__ import annotations

import os
import selectors
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO

from edgekit.errors import SilenceError

Heard = Callable[[str], None]
SILENCE_S = 120.0  # without a byte either way, until a step is given up
QUIET = 5.0  # times as long, where one call may be long and cannot tell how far it is
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit status, standard output, and standard error."""

    code: int
    out: bytes
    err: str


@dataclass
class Step:
    """What is being done, in words for an error; whoever listens may change them as the step goes on.

    It may be silent for ``patience`` times the target's limit and ``extra_s`` seconds.
    """

    name: str = "a command"
    patience: float = 1.0
    extra_s: float = 0.0


def run_process(
    arguments: list[str], feed: Iterable[bytes], heard: Heard | None, name: str, silence_s: float, step: Step | None
) -> Done:
    """A process on the target ``name`` until it ends. If we are interrupted, so is it.

    Raises ``SilenceError`` where it neither takes nor says a byte for as long as ``step`` allows. What ``feed`` and
    ``heard`` take is not its time.
    """
    step = step or Step()
    limit = step.patience * silence_s + step.extra_s
    # Not a pipe: ssh's master process inherits standard error and keeps it open after the command has ended.
    with tempfile.TemporaryFile() as err:
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, bufsize=0)
        assert process.stdin is not None and process.stdout is not None
        try:
            out = _talk(process.stdin, process.stdout, iter(feed), heard, limit)
            code = process.wait(limit)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise SilenceError(
                f"{name}: {step.name}",
                found=f"no word and no progress for {limit:g} s",
                expected="a board that goes on",
                fix="It runs what it ran before, or what it was switched to, whole. See whether it answers at all and "
                "has memory left; then run the command again: it goes on where it was. A slow board: --silence "
                f"{2 * silence_s:g}",
            ) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdin.close()
            process.stdout.close()
        err.seek(0)
        return Done(code, out, err.read().decode(errors="replace"))


def _talk(into: IO[bytes], out: IO[bytes], feed: Iterable[bytes], heard: Heard | None, limit: float) -> bytes:
    """All that comes from ``out`` until it ends, while ``feed`` goes ``into`` it. Raises ``TimeoutError``."""
    chunks, left = iter(feed), memoryview(b"")
    said, told = bytearray(), 0
    os.set_blocking(into.fileno(), False)
    with selectors.DefaultSelector() as both:
        both.register(out, selectors.EVENT_READ)
        both.register(into, selectors.EVENT_WRITE)
        while both.get_map():
            ready = [key.fileobj for key, _ in both.select(limit)]
            if not ready:
                raise TimeoutError
            if into in ready:
                try:
                    while not left:
                        left = memoryview(next(chunks))
                    left = left[os.write(into.fileno(), left[:_BLOCK]) :]
                except (StopIteration, BrokenPipeError):  # it has all; or it ended early, and how it ended says why
                    both.unregister(into)
                    into.close()
            if out in ready:
                block = os.read(out.fileno(), _BLOCK)
                said += block
                if heard is not None:
                    while (end := said.find(b"\n", told) + 1) or (not block and (end := len(said)) > told):
                        heard(said[told:end].decode(errors="replace"))
                        told = end
                if not block:
                    both.unregister(out)
    return bytes(said)
