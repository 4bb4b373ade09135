"""The built-in data, from the real archive; and what happens where it cannot be had."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from edgekit.cache import cache_dir
from edgekit.data import fold, load_eval, vader
from edgekit.errors import DataError, MissingDependencyError
from edgekit.progress import Silent


@pytest.fixture(scope="module")
def archive() -> Path:
    try:
        return vader.fetch(Silent())
    except MissingDependencyError as error:
        pytest.skip(f"the package registry cannot be reached: {error}")


def test_the_counts_are_those_of_the_paper(archive: Path) -> None:
    rows = vader.parse(archive)
    assert Counter(stratum.split("/")[0] for stratum in rows.strata) == {
        "films": 10_605,
        "products": 3_708,
        "tweets": 4_200,
        "editorials": 5_190,
    }
    assert Counter(rows.labels) == {"negative": 9_181, "neutral": 4_244, "positive": 10_278}
    assert not any("&amp;" in text for text in rows.texts)


def test_thresholds() -> None:
    assert [vader.label(score) for score in (-4, -0.5, -0.49, 0, 0.49, 0.5, 4)] == [
        *["negative"] * 2,
        *["neutral"] * 3,
        *["positive"] * 2,
    ]


@pytest.mark.slow
def test_the_split_is_fixed_and_shares_nothing(archive: Path, splits) -> None:
    read = splits("vader")
    assert read.names == ["negative", "neutral", "positive"]
    assert [len(part) for part in (read.train, read.validation, read.test)] == [18_148, 2_000, 3_555]
    assert read.licences[0]["licence"] == "MIT"
    folded = [{fold(text) for text in part.texts} for part in (read.train, read.validation, read.test)]
    assert not folded[0] & folded[1] | folded[0] & folded[2] | folded[1] & folded[2]
    shares = Counter(read.test.strata)
    for stratum, count in Counter(vader.parse(archive).strata).items():
        assert shares[stratum] == pytest.approx(0.15 * count, abs=2)
    # The same on every machine: published results compare.
    assert read.fingerprint.startswith("c3dffa15ea1a")
    again = splits("vader", seed=5)
    assert again.test.texts == read.test.texts
    assert again.validation.texts != read.validation.texts
    assert load_eval("vader", "classify", read.names).texts == read.test.texts


def test_its_texts_serve_embeddings_too(archive: Path, splits) -> None:
    read = splits("vader", "embed")
    assert read.names == []
    assert read.train.labels is None


def test_a_damaged_copy_in_the_cache_is_not_used(archive: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    bad = tmp_path / "downloads" / vader.FILE
    bad.parent.mkdir()
    bad.write_bytes(archive.read_bytes()[:1000])
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    with pytest.raises(MissingDependencyError):
        vader.fetch(Silent())
    with pytest.raises(DataError, match=vader.FILE):
        vader.parse(bad)
    # A machine without network: the file is put there by hand, as the error says.
    shutil.copyfile(archive, bad)
    assert vader.fetch(Silent()) == bad


def test_without_network_the_error_says_what_to_put_where(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for name in ("PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    with pytest.raises(MissingDependencyError) as caught:
        vader.fetch(Silent())
    message = str(caught.value)
    assert "vaderSentiment==3.3.2" in message
    assert str(tmp_path / "downloads" / vader.FILE) in message
    assert vader.SHA256 in message
    assert caught.value.exit_code == 2
    assert list((tmp_path / "downloads").iterdir()) == []


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("EDGEKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "edgekit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "edgekit"
