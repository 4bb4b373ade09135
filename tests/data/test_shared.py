"""The real data sets: counts as their owners state them, minus the stated rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.data.rows import to_rows
from edgekit.data.tables import read_table
from edgekit.recipe import Source


def rows(path: Path, task: str = "classify", **fields):
    source = Source(path=str(path), **fields)
    return to_rows(read_table(path, source), task, source)


@pytest.mark.parametrize(
    ("name", "count", "classes"),
    [
        ("sst2/train.tsv", 60_614, 2),
        ("sst2/dev.tsv", 6_735, 2),
        ("clinc150/train.tsv", 7_500, 150),
        ("clinc150/val.tsv", 3_000, 150),
        ("banking77/train.csv", 10_003, 77),
        ("mrpc/train.tsv", 3_576, 2),
        ("mrpc/val.tsv", 500, 2),
    ],
)
def test_every_row_is_read(shared_data: Path, name: str, count: int, classes: int) -> None:
    found = rows(shared_data / "text" / name)
    assert len(found) == count
    assert len(set(found.labels)) == classes
    assert not [rule for rule in found.rules if "dropped" in rule]


@pytest.mark.parametrize(
    ("name", "count"), [("stsb/train.csv", 5_749), ("stsb/dev.csv", 1_500), ("mrpc/train.tsv", 3_576)]
)
def test_every_pair_is_read(shared_data: Path, name: str, count: int) -> None:
    found = rows(shared_data / "text" / name, "embed")
    assert len(found.scored) == count
    assert len(found) == 2 * count
    assert 0 <= min(found.scored.scores) < max(found.scored.scores) <= 5


def test_quotes_come_out_as_they_were_meant(shared_data: Path) -> None:
    assert 'how can i say "cancel my order" in french' in rows(shared_data / "text/clinc150/val.tsv").texts
    raw = rows(shared_data / "text/mrpc/train.tsv").texts
    assert 'whom he called "the witness", of' in raw[0]
    assert any(text.startswith('"') and not text.endswith('"') for text in raw)
    assert all("\t" not in text for text in raw)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sst2", "clinc150"])
def test_the_folder_gives_three_parts_that_share_nothing(shared_data: Path, splits, name: str) -> None:
    read = splits(shared_data / "text" / name)
    stated = {"sst2": (60_614, 6_735), "clinc150": (7_500, 3_000)}[name]
    dropped = sum(int(rule.split()[0].replace(",", "")) for rule in read.rules if " dropped from " in rule)
    assert len(read.train) + len(read.validation) + dropped == stated[0]
    assert len(read.test) == stated[1]
    assert len(read.names) == {"sst2": 2, "clinc150": 150}[name]
    assert set(read.train.labels.tolist()) == set(range(len(read.names)))


def test_sts_beside_sst_for_embeddings(shared_data: Path, splits) -> None:
    read = splits([shared_data / "text/sst2", shared_data / "text/stsb"], "embed")
    assert len(read.test) == 1_500
    assert read.validation.pairs is not None
    assert len(read.train) > 65_000
