"""Every named case is refused by load and by verify, with its typed error, in little time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import edgekit
from tests.attacks import contents
from tests.attacks.hostile import CASES, Case

pytestmark = pytest.mark.timeout(60)  # a hang is a failure; each takes far less than a second


def refused(root: Path, case: Case) -> None:
    case.spoil(root)
    with pytest.raises(case.error) as caught:
        edgekit.load(root, threads=1)
    assert type(caught.value) is case.error
    for word in case.words:
        assert word in str(caught.value)
    report = edgekit.verify(root, threads=1)
    assert not report.ok
    str(report).encode()  # whatever a file is called, it can be printed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(root: Path, case: Case) -> None:
    refused(root, case)


@pytest.mark.parametrize("case", contents.TEXT, ids=lambda case: case.name)
def test_refused_of_a_text_bundle(made: dict[str, Path], tmp_path: Path, case: Case) -> None:
    refused(Path(shutil.copytree(made["text"], tmp_path / "text.edge")), case)


def test_there_are_many() -> None:
    names = [case.name for case in CASES + contents.TEXT]
    assert len(set(names)) == len(names) >= 40
