"""Bundles of a few kilobytes, and guarded models that wait long enough for a loaded machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.runtimes import Guarded
from tests.runtimes import tiny
from tests.runtimes.recovery.faulty import Faults

Make = Callable[..., Guarded]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For onnxruntime. Shared: do not write to it."""
    return tiny.bundle(tmp_path_factory.mktemp("guard") / "main.edge")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A last good bundle that answers otherwise. Shared: do not write to it."""
    return tiny.bundle(tmp_path_factory.mktemp("guard") / "good.edge", seed=1)


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For onnxruntime and openvino. Shared: do not write to it."""
    return tiny.bundle(tmp_path_factory.mktemp("guard") / "two.edge", openvino=True)


@pytest.fixture(scope="session")
def right(bundle: Path) -> np.ndarray:
    """The logits of ``tiny.TEXTS`` that ``bundle`` and ``engines`` give."""
    return edgekit.load(bundle, threads=1).logits(tiny.TEXTS)  # type: ignore[union-attr]


@pytest.fixture
def faults() -> Iterator[Faults]:
    """What goes wrong in the engines of ``make``; nothing hangs any more at the end."""
    found = Faults()
    yield found
    found.release.set()


@pytest.fixture
def make(faults: Faults) -> Iterator[Make]:
    """Guarded models, closed at the end. ``deadline_ms`` 100: a hang is called one after 0.3 s."""
    with ExitStack() as stack:

        def guarded(path: Path, **given: Any) -> Guarded:
            hook = {} if given.get("isolate") else {"wrap_engine": faults.wrap}
            kept = {"threads": 1, "deadline_ms": 100, "patience_ms": 20_000, "backoff_s": (0.05, 0.2), **hook, **given}
            return stack.enter_context(Guarded(path, **kept))

        yield guarded


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for it; the test fails when it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)
