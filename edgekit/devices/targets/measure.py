"""The profile of a bundle on a target, and profiles that are kept for estimates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.bundle import open_bundle
from edgekit.devices.targets.board import FOLDER
from edgekit.devices.targets.deploy import command, stage
from edgekit.devices.targets.target import Target
from edgekit.progress import Progress, Silent


def profile(
    path: str | Path,
    target: Target,
    options: dict[str, Any],
    folder: str = FOLDER,
    engines: Sequence[str] = (),
    wheels: Path | None = None,
    progress: Progress = Silent(),
) -> dict[str, Any]:
    """The profile of the bundle at ``path`` measured on ``target``: :meth:`edgekit.devices.profiler.Profile.to_dict`.

    With ``target``, ``board`` (its file's name, "" for one that is not known), ``created``, ``bundle_sha256`` and
    ``verified``. ``options``: further arguments of :func:`edgekit.devices.profiler.profile`. The bundle and a runtime
    are sent as far as they are not there; what is deployed stays as it is. On an emulated board ``basis`` is
    "emulated" and every time is None.
    """
    bundle = open_bundle(path)
    staged = stage(bundle, target, folder, engines, wheels=wheels, progress=progress)
    job = {"do": "profile", "bundle": staged.bundle, "options": options}
    longest = options.get("seconds", 1.0)  # of runs without a word between them
    found = command(target, staged.runtime, job, progress, longest)
    return {**found, "bundle": str(path), "target": target.name}
