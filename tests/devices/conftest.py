"""An arm64 userland, built once a session in about ten seconds."""

from __future__ import annotations

import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.devices import emulate
from edgekit.devices.userland import SUITE, debian_mirror, userland
from edgekit.errors import MissingDependencyError
from tests import ssh_board
from tests.arm_bundles import write_bundle
from tests.sharing import once
from tests.ssh_board import SshBoard


@pytest.fixture(scope="session")
def arm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the userland in it; a skip where emulation lacks what it needs."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing: the userland is made of Debian's packages")
    try:
        emulate.qemu()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    try:
        mirror = debian_mirror()
        urllib.request.urlopen(f"{mirror.rstrip('/')}/dists/{SUITE}/InRelease", timeout=20).close()
    except (MissingDependencyError, OSError) as error:
        pytest.skip(f"Debian's packages cannot be reached: {error}")
    cache = tmp_path_factory.mktemp("userland")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(cache))
        userland()
    return cache


@pytest.fixture(scope="module")
def board(arm_cache: Path) -> Iterator[None]:
    """The emulated boards of a module find the userland."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(arm_cache))
        yield


@pytest.fixture(scope="module")
def pi_bundle(tiny_encoder: Path, tiny_litert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32 and INT8 for onnxruntime and LiteRT."""
    return once(tmp_path_factory, "pi", lambda work: write_bundle(tiny_encoder, tiny_litert, work, "pi")) / "pi.edge"


@pytest.fixture(scope="module")
def pi(request: pytest.FixtureRequest, arm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshBoard]:
    """A board of the module's ``CPU`` with nothing of edgekit's on it; ssh on the PATH finds it."""
    if reason := ssh_board.reasons():
        pytest.skip(reason)
    userland = next((arm_cache / "userland").iterdir())
    with (
        pytest.MonkeyPatch.context() as patch,
        SshBoard(tmp_path_factory.mktemp("board"), userland, request.module.CPU) as found,
    ):
        patch.setenv("EDGEKIT_CACHE", str(arm_cache))
        patch.setenv("PATH", f"{found.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        yield found
