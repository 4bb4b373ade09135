"""Loaded models, once a session, and a watch over threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edgekit
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.model import Model
from tests import clip_bundles


@pytest.fixture(scope="session")
def model(small_bundle: Path) -> Model:
    """Task classify, fp32: it may run batches."""
    return _loaded(small_bundle, "models/fp32.onnx")


@pytest.fixture(scope="session")
def int8(small_bundle: Path) -> Model:
    """The same in dynamic INT8: it may not."""
    return _loaded(small_bundle, "models/int8.onnx")


@pytest.fixture(scope="session")
def model_of(bundle_of: Callable[[str], Path]) -> Callable[[str], Model]:
    """By task, fp32."""
    return lambda task: _loaded(bundle_of(task), "models/fp32.onnx")


@pytest.fixture(scope="session")
def dual_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a dual encoder with both towers."""
    folder = tmp_path_factory.mktemp("stream-clip")
    onnx = clip_bundles.onnx_artifact(folder)
    return clip_bundles.bundle(folder / "photo.edge", {"models/fp32.image.onnx": onnx})


@pytest.fixture(scope="session")
def dual(dual_bundle: Path) -> DualModel:
    """It loaded."""
    found = edgekit.load(dual_bundle, threads=1)
    assert isinstance(found, DualModel)
    return found


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """After each test there are no more threads than before it."""
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before and "edgekit" in thread.name]
    assert left == []


def _loaded(bundle: Path, file: str) -> Model:
    found = edgekit.load(bundle, threads=1, file=file)
    assert isinstance(found, Model)
    return found
