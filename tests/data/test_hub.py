"""Data sets of the `datasets` library, saved to disk and read without network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.data import load_eval
from edgekit.errors import DataError


@pytest.fixture(scope="module")
def datasets() -> Any:
    try:
        import datasets
    except (ImportError, AttributeError) as error:
        pytest.skip(f"`datasets` cannot be imported here: {error}")
    return datasets


def some(datasets: Any, rows: int, start: int = 0, labelled: bool = True) -> Any:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    numbers = range(start, start + rows)
    columns = {"text": [f"text {n}" for n in numbers], "label": [n % 2 if labelled else -1 for n in numbers]}
    return datasets.Dataset.from_dict(columns, features=features)


def test_a_saved_set_is_read_with_its_class_names(datasets: Any, splits, tmp_path: Path) -> None:
    some(datasets, 60).save_to_disk(str(tmp_path / "one"))
    read = splits(tmp_path / "one")
    assert read.names == ["bad", "good"]
    assert sum(map(len, (read.train, read.validation, read.test))) == 60
    assert len(splits({"path": tmp_path / "one", "limit": 40}).train) < 40


def test_saved_splits_are_the_parts(datasets: Any, splits, tmp_path: Path) -> None:
    parts = {"train": some(datasets, 40), "validation": some(datasets, 8, 100), "test": some(datasets, 6, 200)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "all"))
    read = splits(tmp_path / "all")
    assert [len(part) for part in (read.train, read.validation, read.test)] == [40, 8, 6]
    assert load_eval(str(tmp_path / "all"), "classify", ["bad", "good"]).texts == read.test.texts


def test_a_test_split_whose_labels_are_secret_is_left_out(datasets: Any, splits, tmp_path: Path) -> None:
    parts = {
        "train": some(datasets, 60),
        "validation": some(datasets, 8, 100),
        "test": some(datasets, 6, 200, labelled=False),
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "secret"))
    read = splits(tmp_path / "secret")
    assert len(read.test) == 8
    assert any("split test has no labels" in rule for rule in read.rules)


def test_tags_with_class_names(datasets: Any, splits, tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["O", "B-LOC"])
    features = datasets.Features(
        {"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": datasets.Sequence(names)}
    )
    columns = {"tokens": [["in", f"Rome{n}"] for n in range(30)], "ner_tags": [[0, 1]] * 30}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "ner"))
    assert splits(tmp_path / "ner", "tag").names == ["B-LOC", "O"]


def test_a_damaged_folder_is_told(datasets: Any, splits, tmp_path: Path) -> None:
    some(datasets, 60).save_to_disk(str(tmp_path / "one"))
    for file in (tmp_path / "one").glob("*.arrow"):
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match="save_to_disk"):
        splits(tmp_path / "one")
