"""A fresh process for a measurement, so that nothing of this one is in its time or its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import edgekit.errors as errors
from edgekit.runtimes.process import environment


def run_child(job: dict[str, Any], extra: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What :mod:`edgekit.devices.worker` answers to ``job``, with ``extra`` added to this process's environment.

    Raises InputError or EngineError, as it met them.
    """
    env = {**environment(), **(extra or {})}
    done = subprocess.run(
        [sys.executable, "-m", "edgekit.devices.worker"], input=json.dumps(job), capture_output=True, text=True, env=env
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise errors.EngineError(
            f"the process that measures {job.get('file') or 'the bundle'} ended early",
            found=f"signal {-done.returncode}" if done.returncode < 0 else last,
            fix="One that was killed ran out of memory.",
        ) from None
    if "error" in answer:
        kind = errors.InputError if answer["exit_code"] == 2 else errors.EngineError
        raise kind(answer["error"])
    return answer
