"""Small bundles of each task: two layers of MiniLM, INT8 and fp32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bundle.making import factory
from tests.runtimes import three
from tests.sharing import once


@pytest.fixture(scope="session")
def bundle_of(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """By task: classify, embed, tag. Shared: copy it before you change it."""
    return factory(tiny_model, tmp_path_factory)


@pytest.fixture(scope="session")
def small_bundle(bundle_of: Callable[[str], Path]) -> Path:
    """Task classify."""
    return bundle_of("classify")


@pytest.fixture(scope="session")
def two_engines(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task classify, fp32, for onnxruntime and openvino in this order. Shared: do not write to it."""
    return three.two(tiny_encoder, tmp_path_factory)


@pytest.fixture(scope="session")
def three_engines(tiny_encoder: Path, tiny_litert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for litert too. Its file takes long to make, so tests of it are slow. Shared: do not write to it."""
    made = once(tmp_path_factory, "three-engines", lambda work: three.make_bundle(tiny_encoder, work, tiny_litert))
    return made / "small.edge"
