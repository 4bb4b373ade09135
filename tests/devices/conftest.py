"""An arm64 userland, built once a session in about ten seconds."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.devices import emulate
from edgekit.devices.userland import SUITE, debian_mirror, userland
from edgekit.errors import MissingDependencyError


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
