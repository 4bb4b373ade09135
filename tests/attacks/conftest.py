"""Small bundles of each task: two layers of MiniLM, INT8 and fp32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bundle.making import factory


@pytest.fixture(scope="session")
def bundle_of(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """By task: classify, embed, tag. Shared: copy it before you change it."""
    return factory(tiny_model, tmp_path_factory)


@pytest.fixture(scope="session")
def small_bundle(bundle_of: Callable[[str], Path]) -> Path:
    """Task classify."""
    return bundle_of("classify")
