"""A fresh process for a measurement, so that nothing of this one is in its time or its memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import edgekit.errors as errors
from edgekit.runtimes.process import environment

KEEP = 20_000  # samples of one slice that are told


class Child:
    """A process of :mod:`edgekit.devices.worker` that has done what ``job`` says; ``ready`` is what it said then.

    One with a model waits, without using the processor, until it is asked for a :meth:`slice` of runs, and for
    :meth:`end`. Raises InputError or EngineError, as the process met them. Ends with the ``with`` block.
    """

    def __init__(self, job: Mapping[str, Any], extra: Mapping[str, str] | None = None) -> None:
        self._what = job.get("file") or "the bundle"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgekit.devices.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**environment(), **(extra or {})},
            text=True,
        )
        try:
            self.ready = self._ask(job)
        except BaseException:
            self.close()
            raise

    def slice(self, runs: int, seconds: float, most: int = KEEP, keep: int = KEEP) -> dict[str, Any]:
        """Times of at least ``runs`` runs and ``seconds``, at most ``most`` (as :func:`edgekit.devices.worker.serve`).

        ``keep``: of more than so many, that many are told.
        """
        return self._ask({"runs": runs, "seconds": seconds, "most": max(runs, most), "keep": keep})

    def end(self) -> dict[str, Any]:
        """What it holds in memory: ``rss_mb``, ``rss_steady_mb``, ``pss_mb``. Then it ends."""
        return self._ask({"end": True})

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; what it said last tells why
        try:
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except ValueError:
            code = self._process.wait()
            self._log.seek(0)
            lines = self._log.read().decode(errors="replace").strip().splitlines()
            raise errors.EngineError(
                f"the process that measures {self._what} ended early",
                found=f"signal {-code}" if code < 0 else (lines or [f"exit {code}"])[-1],
                fix="One that was killed ran out of memory.",
            ) from None
        if "error" in answer:
            kind = errors.InputError if answer["exit_code"] == 2 else errors.EngineError
            raise kind(answer["error"])
        return answer


def run_child(job: Mapping[str, Any], extra: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a fresh process answers to ``job``, with ``extra`` added to this process's environment.

    Raises InputError or EngineError, as it met them.
    """
    with Child(job, extra) as child:
        return child.ready
