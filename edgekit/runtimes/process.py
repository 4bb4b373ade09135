"""A new Python process that finds the same edgekit as this one."""

from __future__ import annotations

import os
from pathlib import Path

import edgekit.errors as errors


def environment() -> dict[str, str]:
    """This process's environment, with the folder that holds edgekit first in ``PYTHONPATH``."""
    package = str(Path(errors.__file__).resolve().parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{known}" if known else package}
