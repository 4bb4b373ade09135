"""Small real files, written by the test that reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.data import Splits, load_splits
from edgekit.recipe import DataConfig


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file under the test's folder and return its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def splits() -> Callable[..., Splits]:
    """``splits(path, task, **fields of DataConfig)``; a dict instead of a path gives fields of the source."""

    def load(train: Any, task: str = "classify", seed: int = 0, **fields: Any) -> Splits:
        def plain(value: Any) -> Any:
            return str(value) if isinstance(value, Path) else value

        train = [plain(one) for one in train] if isinstance(train, list) else plain(train)
        if isinstance(train, dict):
            train = {key: plain(value) for key, value in train.items()}
        config = {key: plain(value) for key, value in fields.items()}
        return load_splits(DataConfig.model_validate({"train": train, **config}), task, seed)

    return load


def table(rows: int, classes: int = 2, separator: str = ",", header: str = "text,label") -> str:
    """A csv of ``rows`` different texts in ``classes`` classes."""
    lines = [header.replace(",", separator)]
    lines += [f"sentence number {row}{separator}class{row % classes}" for row in range(rows)]
    return "\n".join(lines) + "\n"
