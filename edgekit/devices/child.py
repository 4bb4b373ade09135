"""A fresh process for a measurement, so that nothing of this one is in its time or its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import edgekit.errors as errors


def run_child(job: dict[str, Any]) -> dict[str, Any]:
    """What :mod:`edgekit.devices.worker` answers to ``job``. Raises InputError or EngineError, as it met them."""
    package = str(Path(errors.__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH")
    env = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{known}" if known else package}
    done = subprocess.run(
        [sys.executable, "-m", "edgekit.devices.worker"], input=json.dumps(job), capture_output=True, text=True, env=env
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise errors.EngineError(
            f"the process that measures {job['file'] or 'the bundle'} ended early",
            found=last,
            fix="One that was killed ran out of memory.",
        ) from None
    if "error" in answer:
        kind = errors.InputError if answer["exit_code"] == 2 else errors.EngineError
        raise kind(answer["error"])
    return answer
