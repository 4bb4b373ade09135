"""A stage's result is there whole or not at all, under a name that changes with all that it depends on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.compress.cache import StageCache, code_version, key_of
from edgekit.errors import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=5))
def test_a_key_does_not_depend_on_the_order_of_its_inputs(inputs: dict[str, object]) -> None:
    assert key_of(part=inputs) == key_of(part=dict(reversed(inputs.items())))
    assert key_of(part=inputs) != key_of(part=[inputs])


def test_finished_means_all_of_it(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    partial = cache.begin("k")
    (partial / "model" / "weights").write_bytes(b"abc")
    assert not cache.has("k")
    cache.finish("k", partial, {"seconds": 1.0})
    assert cache.has("k") and (cache.model("k") / "weights").read_bytes() == b"abc"
    assert cache.details("k") == {"seconds": 1.0} and not partial.exists()


def test_a_result_without_its_details_is_made_again(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    cache.finish("k", cache.begin("k"), {"seconds": 1.0})
    (cache.folder("k") / "details.json").unlink()
    assert not cache.has("k")
    cache.finish("k", cache.begin("k"), {"seconds": 2.0})
    assert cache.details("k")["seconds"] == 2.0


def test_a_gate_is_asked_once_for_each_question(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    cache.finish("k", cache.begin("k"), {})
    assert cache.read_gate("k", "q") is None
    cache.write_gate("k", "q", {"kept": True})
    assert cache.read_gate("k", "q") == {"kept": True} and cache.read_gate("k", "other") is None


def test_sweeping_takes_what_killed_runs_left_and_nothing_of_the_living(tmp_path: Path) -> None:
    cache = StageCache(tmp_path)
    mine = cache.begin("a")
    dead = cache.folder("b").with_name("b.partial-4194999")  # above the largest pid of Linux's default
    dead.mkdir()
    answers = tmp_path / "work" / "answers" / "a"
    answers.mkdir(parents=True)
    cache.sweep(["a"])
    assert mine.is_dir() and not dead.exists() and not answers.exists()


def test_code_is_part_of_the_key() -> None:
    assert code_version(["distill"]) != code_version(["quantize"])
    assert code_version(["distill"]) == code_version(["distill"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="--cache-dir"):
        StageCache(tmp_path / "cache")


def test_a_file_in_the_place_of_the_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(InputError, match="--cache-dir"):
        StageCache(tmp_path / "cache")
