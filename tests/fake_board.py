"""This machine as a board: a scripted ssh on the PATH, and a wheel that borrows what is installed here."""

from __future__ import annotations

import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import open_bundle, write
from edgekit.cli.main import run
from edgekit.runtimes.slots import Slots

SSH = """#!/bin/sh
# ssh to a board whose home is {home}
printf '%s\\n' "$*" >> {home}/../log
while :; do
  case $1 in
    -O) exit 0;;
    -o|-p) shift 2;;
    -*) shift;;
    *) break;;
  esac
done
shift
cd {home} && HOME={home} exec {prefix} sh -c "$*"
"""


class FakeBoard:
    """Its ``home``, its ``target``, and the folder of ``wheels`` for it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.home, self.wheels, self.target = folder / "home", folder / "wheels", "ssh://pi@board"
        self.home.mkdir(parents=True)
        self.wheels.mkdir()
        with zipfile.ZipFile(self.wheels / "borrowed-1.0-py3-none-any.whl", "w") as packed:
            packed.writestr("borrowed.pth", f"{Path(np.__file__).parent.parent}\n")
        (folder / "bin").mkdir()
        self.ssh = folder / "bin/ssh"
        self.answers()
        patch.setenv(
            "PATH", f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        )
        patch.setenv("EDGEKIT_CACHE", str(folder / "cache"))

    def answers(self, prefix: str = "") -> None:
        """Let every command there be run by ``prefix``."""
        self.ssh.write_text(SSH.format(home=self.home, prefix=prefix))
        self.ssh.chmod(0o755)

    def deploy(self, bundle: Path, *more: str) -> int:
        return run(["deploy", str(bundle), "--target", self.target, "--wheels", str(self.wheels), *more])

    @property
    def slots(self) -> Slots:
        return Slots(self.home / "edgekit/apps/small")

    def tree(self) -> dict[str, str]:
        """What runs there: the slots and the link to the runtime, by name."""
        apps = self.home / "edgekit/apps"
        found = {}
        for path in sorted(apps.rglob("*")):
            if path.is_symlink():
                found[str(path.relative_to(apps))] = os.readlink(path)
            elif path.is_file() and path.name != ".lock":
                found[str(path.relative_to(apps))] = path.read_bytes().hex()[:200]
        return found


def changed(bundle: Path, path: Path) -> Path:
    """A copy of ``bundle`` whose licence page is another: one file and the manifest differ."""
    opened = open_bundle(bundle)
    files: dict[str, Path | bytes] = {entry.path: bundle / entry.path for entry in opened.manifest.files}
    write(
        path, replace(opened.manifest, release=opened.manifest.release + 1), files | {"LICENSES.md": path.name.encode()}
    )
    return path
