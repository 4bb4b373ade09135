"""Slots: install, prove, confirm, go back."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import open_bundle, read_tensors, write, write_tensors
from edgekit.errors import BundleError, EdgekitWarning, InputError, VerificationError
from edgekit.runtimes import Slots
from tests.runtimes import tiny
from tests.runtimes.slots.conftest import Pair


def which(slots: Slots, pair: Pair) -> str:
    """Whether the old or the new bundle answers."""
    found = slots.load(threads=1).logits(tiny.TEXTS)
    return next(name for name, answer in pair.answers.items() if np.array_equal(found, answer))


def other_answers(source: Path, target: Path) -> Path:
    """A copy with right hashes whose golden vectors ask for other answers than it gives."""
    bundle = open_bundle(source)
    tensors = read_tensors(source / "golden.safetensors")
    tensors[f"outputs.{tiny.ONNX}"] = tensors[f"outputs.{tiny.ONNX}"][::-1].copy()
    files: dict[str, Path | bytes] = {one.path: source / one.path for one in bundle.manifest.files}
    write(target, bundle.manifest, files | {"golden.safetensors": write_tensors(tensors)})
    return target


@pytest.fixture
def slots(pair: Pair, tmp_path: Path) -> Slots:
    """The old bundle is installed and confirmed."""
    made = Slots(tmp_path / "deep" / "slots")
    made.install(pair.old)
    assert which(made, pair) == "old"
    made.confirm()
    return made


def test_an_installed_bundle_runs_from_the_next_load_on_and_stays_when_confirmed(slots: Slots, pair: Pair) -> None:
    before = slots.current()
    slot = slots.install(pair.new)
    assert slots.current() == slot != before
    assert slots.fallback() == before
    assert which(slots, pair) == "new"
    slots.confirm()
    state = slots.status()
    assert state is not None and state.confirmed and state.boots == 0
    assert [which(slots, pair) for _ in range(5)] == ["new"] * 5


def test_one_that_nobody_confirms_goes_after_so_many_boots(slots: Slots, pair: Pair) -> None:
    slots.install(pair.new)
    assert [which(slots, pair) for _ in range(3)] == ["new"] * 3
    with pytest.warns(EdgekitWarning, match="not confirmed in 3 boots"):
        assert which(slots, pair) == "old"
    assert which(slots, pair) == "old"
    state = slots.status()
    assert state is not None and state.confirmed and "not confirmed" in state.note


def test_one_that_fails_its_self_test_on_this_boot_goes_at_once(slots: Slots, pair: Pair) -> None:
    slot = slots.install(pair.new)
    (slot / tiny.ONNX).write_bytes(b"x" * (slot / tiny.ONNX).stat().st_size)
    with pytest.warns(EdgekitWarning, match="self-test"):
        assert which(slots, pair) == "old"


def test_a_confirmed_one_that_is_damaged_later_goes_too(slots: Slots, pair: Pair) -> None:
    slot = slots.install(pair.new)
    slots.load(threads=1)
    slots.confirm()
    (slot / "tokenizer.json").unlink()
    with pytest.warns(EdgekitWarning, match="missing"):
        assert which(slots, pair) == "old"


def test_a_wrong_option_is_not_the_bundles_fault(slots: Slots, pair: Pair) -> None:
    slots.install(pair.new)
    with pytest.raises(InputError, match="threads"):
        slots.load(threads=-1)
    assert which(slots, pair) == "new"


def test_a_bundle_that_does_not_verify_is_not_installed(slots: Slots, pair: Pair, tmp_path: Path) -> None:
    before = sorted(slots.folder.iterdir())
    damaged = shutil.copytree(pair.new, tmp_path / "damaged.edge")
    (damaged / tiny.ONNX).write_bytes(b"")
    with pytest.raises(BundleError, match="truncated"):
        slots.install(damaged)
    with pytest.raises(VerificationError, match="outputs"):
        slots.install(other_answers(pair.new, tmp_path / "other.edge"))
    assert sorted(slots.folder.iterdir()) == before
    assert which(slots, pair) == "old"


def test_the_one_that_works_is_never_in_the_way_of_an_unconfirmed_one(slots: Slots, pair: Pair) -> None:
    slots.install(pair.new)
    with pytest.raises(InputError, match="not confirmed"):
        slots.install(pair.new)
    assert slots.rollback() == slots.current()
    assert which(slots, pair) == "old"
    slots.install(pair.new)
    assert which(slots, pair) == "new"


def test_only_two_bundles_stay_and_nothing_that_is_not_ours_goes(slots: Slots, pair: Pair) -> None:
    (slots.folder / "notes.txt").write_text("mine")
    (slots.folder / ".000007.edge.tmp").mkdir()
    for bundle in (pair.new, pair.old, pair.new):
        slots.install(bundle)
        slots.load(threads=1)
        slots.confirm()
    names = sorted(one.name for one in slots.folder.iterdir())
    assert names == [".lock", "000003.edge", "000004.edge", "notes.txt", "state.json"]


def test_a_damaged_state_costs_nothing_but_a_warning(slots: Slots, pair: Pair) -> None:
    slots.install(pair.new)
    (slots.folder / "state.json").write_text('{"schema_version": 1, "current": "../../etc", "fallback": ""')
    with pytest.warns(EdgekitWarning, match=r"state\.json"):
        assert which(slots, pair) == "new"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert which(slots, pair) == "new", "written again by the load"
    assert slots.fallback() is not None


def test_the_program_in_the_docs(slots: Slots, pair: Pair, root: Path) -> None:
    slots.install(pair.new)
    program = re.findall(r"^```python\n(.*?)^```", (root / "docs/recovery.md").read_text(), re.DOTALL | re.MULTILINE)[0]
    found: dict[str, Any] = {}
    exec(program.replace("/var/lib/edgekit", str(slots.folder)), found)
    assert found["answer"].labels[0] in tiny.LABELS
    state = slots.status()
    assert state is not None and state.confirmed


def test_nothing_installed(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "none")
    assert slots.status() is None
    assert slots.fallback() is None
    for ask in (slots.current, slots.load, slots.confirm, slots.rollback):
        with pytest.raises(InputError, match="no bundle"):
            ask()
    assert not (tmp_path / "none").exists()


def test_no_way_back_from_the_first(pair: Pair, tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", boots=1)
    slots.install(pair.old)
    assert [which(slots, pair) for _ in range(3)] == ["old"] * 3, "there is nothing better"
    with pytest.raises(InputError, match="alone"):
        slots.rollback()
