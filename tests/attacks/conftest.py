"""Bundles to spoil: small ones of MiniLM, and real ones of a few kB, signed and not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit.bundle.keys import generate
from edgekit.bundle.sign import sign
from tests.attacks import tiny


@pytest.fixture(scope="session")
def bundle_of(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """By task: classify, embed, tag. Shared: copy it before you change it."""
    from tests.bundle.making import factory  # here: it brings torch, which most of these tests do without

    return factory(tiny_model, tmp_path_factory)


@pytest.fixture(scope="session")
def small_bundle(bundle_of: Callable[[str], Path]) -> Path:
    """Task classify."""
    return bundle_of("classify")


@dataclass(frozen=True)
class Pair:
    """A private key's file and its public one."""

    private: Path

    @property
    def public(self) -> Path:
        return self.private.with_name(self.private.name + ".pub")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """The makers ``ours``, ``new`` and ``theirs``."""
    pytest.importorskip("cryptography", reason="needs the package cryptography: pip install edgekit[sign]")
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "new", "theirs"):
        generate(folder / name)
    return {name: Pair(folder / name) for name in ("ours", "new", "theirs")}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny bundles by kind, text and dual. Shared: copy them before you change them."""
    folder = tmp_path_factory.mktemp("tiny")
    return {"text": tiny.text_bundle(folder / "text.edge"), "dual": tiny.dual_bundle(folder / "dual.edge")}


@pytest.fixture(params=["text", "dual"])
def root(request: pytest.FixtureRequest, made: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of each tiny bundle, to spoil."""
    return Path(shutil.copytree(made[request.param], tmp_path / f"{request.param}.edge"))


@pytest.fixture
def signed(root: Path, keys: dict[str, Pair]) -> Path:
    """The same, signed by ``ours`` as release 3."""
    sign(root, [keys["ours"].private], release=3)
    return root
