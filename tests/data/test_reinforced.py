"""Reinforced sets: augmentations that their seeds alone decide, and stores that survive a kill at any moment."""

from __future__ import annotations

import hashlib
import json
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekit.data.augment import AugmentSettings, augment
from edgekit.data.reinforced import write_store
from edgekit.data.store import ReinforcedStore
from edgekit.errors import DataError, ModelError
from tests.data.reinforced_child import SETTINGS, Fake, example_set, teachers


def files(folder: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in sorted(folder.iterdir())}


# --- augmentations


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**63 - 1), st.integers(1, 40))
def test_an_augmentation_follows_from_its_seed(width: int, height: int, seed: int, size: int) -> None:
    picture = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = augment(picture, seed, size)
    assert found.shape == (size, size, 3) and found.dtype == np.uint8
    assert np.array_equal(found, augment(Image.fromarray(picture), seed, size))


def test_seeds_give_different_crops_and_colours() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    assert len({augment(picture, seed, 16).tobytes() for seed in range(50)}) == 50
    colours_only = AugmentSettings(scale=(1, 1), ratio=(0.1, 10))
    flat = np.full((32, 32, 3), (200, 60, 90), np.uint8)
    assert len({augment(flat, seed, 8, colours_only).tobytes() for seed in range(50)}) > 10


def test_crops_cover_what_the_settings_say() -> None:
    across, down = np.meshgrid(np.arange(200), np.arange(100))
    picture = np.stack([across, down, 0 * down], axis=2).astype(np.uint8)  # pixels that tell where they come from
    plain = AugmentSettings(operations=0)
    areas = []
    for seed in range(300):
        crop = augment(picture, seed, 64, plain).astype(float)
        wide, tall = (np.ptp(crop[:, :, axis]) * 64 / 63 for axis in (0, 1))
        areas.append(wide * tall / 20_000)
        assert 0.65 < wide / tall < 1.5
    assert 0.06 < min(areas) < 0.15 and 0.55 < max(areas) <= 0.75  # a ratio of 4/3 at most fits two thirds
    whole = augment(picture, 0, 64, AugmentSettings(operations=0, scale=(1, 1), ratio=(2, 2))).astype(float)
    assert whole[:, :, 0].min() < 3 and whole[:, :, 0].max() > 196


def test_left_stays_left_unless_asked() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, 20:] = 255
    sides = [augment(picture, seed, 16, AugmentSettings(scale=(0.8, 1), operations=0)) for seed in range(40)]
    assert all(side[:, 0].mean() < 30 and side[:, -1].mean() > 225 for side in sides)
    flipped = [augment(picture, seed, 16, AugmentSettings(scale=(0.8, 1), flip=0.5)) for seed in range(40)]
    assert 5 < sum(side[:, 0].mean() > side[:, -1].mean() for side in flipped) < 35


def test_augmentations_are_those_that_version_1_stands_for() -> None:
    # A change here gives other pixels for the same seed: raise augment.VERSION and write the new hash.
    rows = np.arange(48, dtype=np.uint8)
    picture = np.stack([np.add.outer(rows, 3 * rows), np.multiply.outer(rows, rows), rows + 0 * rows[:, None]], axis=2)
    plain = AugmentSettings(operations=0)
    pixels = b"".join(augment(picture, seed, 24, plain).tobytes() for seed in range(30))
    assert hashlib.sha256(pixels).hexdigest()[:16] == "920643cf47a7922b"


@pytest.mark.parametrize("given", [{"scale": (0.5, 0.2)}, {"scale": (0, 1)}, {"magnitude": 2}, {"operations": -1}])
def test_settings_that_make_no_sense(given: dict) -> None:
    with pytest.raises(DataError, match="augmentation"):
        AugmentSettings(**given)


# --- stores


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_store_gives_back_what_the_teachers_said(tmp_path: Path, dtype: str) -> None:
    data, config = example_set(), replace(SETTINGS, dtype=dtype)
    store = write_store(tmp_path / "s", data, teachers(), config)
    assert len(store) == 10 and store.shards == 3 and store.augmentations == 3
    close = {"rtol": 2e-3, "atol": 1e-3} if dtype == "float16" else {"rtol": 0, "atol": 0}
    seeds = set()
    for row in range(10):
        for which in range(3):
            example = store.example(row, which)
            seeds.add(example.seed)
            redone = augment(data.pictures.open(row), example.seed, config.size, config.augment)
            for teacher, found in zip(teachers(), example.images, strict=True):
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, teacher.embed_images(redone[None])[0], **close)
        for teacher, found in zip(teachers(), store.captions(row), strict=True):
            np.testing.assert_allclose(found, teacher.embed_texts(data.captions_of(row)), **close)
    assert len(seeds) == 30
    batch_seeds, (wide, small) = store.examples([9, 0, 9], [2, 1, 0])
    assert wide.shape == (3, 6) and small.shape == (3, 3)
    assert batch_seeds[1] == store.example(0, 1).seed and np.array_equal(wide[0], store.example(9, 2).images[0])


def test_a_store_can_be_sent_to_the_workers_of_a_loader(tmp_path: Path) -> None:
    store = write_store(tmp_path, example_set(), teachers(), SETTINGS)
    before = store.example(5, 1)
    after = pickle.loads(pickle.dumps(store)).example(5, 1)
    assert before.seed == after.seed and np.array_equal(before.images[0], after.images[0])


def test_past_the_ends_is_an_index_error(tmp_path: Path) -> None:
    store = write_store(tmp_path, example_set(), teachers(), SETTINGS)
    for row, which in ((10, 0), (-1, 0), (0, 3), (0, -1)):
        with pytest.raises(IndexError):
            store.example(row, which)
    with pytest.raises(IndexError):
        store.captions(10)


def test_a_finished_store_asks_no_teacher_again(tmp_path: Path) -> None:
    write_store(tmp_path, example_set(), teachers(), SETTINGS)
    before = files(tmp_path)
    again = teachers()
    write_store(tmp_path, example_set(), again, SETTINGS)
    assert [teacher.asked for teacher in again] == [0, 0]
    assert files(tmp_path) == before


def _killed_at(folder: Path, event: int) -> int:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.data.reinforced_child", str(folder), str(event)]
    return subprocess.run(command, cwd=root, check=False).returncode


@pytest.mark.parametrize("event", [3, 4, 9, 14])
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path, event: int) -> None:
    write_store(tmp_path / "whole", example_set(), teachers(), SETTINGS)
    broken = tmp_path / "broken"
    assert _killed_at(broken, event) == -signal.SIGKILL
    left = files(broken) if broken.is_dir() else {}
    whole = files(tmp_path / "whole")
    assert all(whole[name] == content for name, content in left.items() if not name.startswith("."))
    assert set(left) != set(whole)
    write_store(broken, example_set(), teachers(), SETTINGS)
    assert files(broken) == whole


@pytest.mark.slow
def test_killed_at_every_moment(tmp_path: Path) -> None:
    write_store(tmp_path / "whole", example_set(), teachers(), SETTINGS)
    event = 1
    while _killed_at(tmp_path / str(event), event) == -signal.SIGKILL:
        write_store(tmp_path / str(event), example_set(), teachers(), SETTINGS)
        assert files(tmp_path / str(event)) == files(tmp_path / "whole")
        event += 1
    assert event > 16  # the last child was not killed: there were no more moments
    assert files(tmp_path / str(event)) == files(tmp_path / "whole")


def test_a_damaged_shard_is_refused_and_written_again(tmp_path: Path) -> None:
    write_store(tmp_path, example_set(), teachers(), SETTINGS)
    before = files(tmp_path)
    shard = tmp_path / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"shard-00001.*whole shard"):
        ReinforcedStore.open(tmp_path)
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-00001.*no such file"):
        ReinforcedStore.open(tmp_path)
    shard.write_bytes(before["shard-00002.safetensors"])  # whole, but another
    with pytest.raises(DataError, match="shard-00001"):
        ReinforcedStore.open(tmp_path)
    write_store(tmp_path, example_set(), teachers(), SETTINGS)
    assert files(tmp_path) == before


def test_another_set_teacher_or_setting_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path, example_set(), teachers(), SETTINGS)
    other = teachers()
    other[1].sha256 = "0" * 64
    for match, asked in (
        ("data", (example_set(9), teachers(), SETTINGS)),
        ("teachers", (example_set(), other, SETTINGS)),
        ("teachers", (example_set(), teachers()[::-1], SETTINGS)),
        ("settings", (example_set(), teachers(), replace(SETTINGS, seed=1))),
        ("settings", (example_set(), teachers(), replace(SETTINGS, augment=AugmentSettings(flip=0.5)))),
    ):
        with pytest.raises(DataError, match=f": {match}; found"):
            write_store(tmp_path, *asked)
    known = {teacher.name: teacher.sha256 for teacher in teachers()}
    assert len(ReinforcedStore.open(tmp_path, data=store.data, teachers=known)) == 10
    with pytest.raises(DataError, match="embeddings of the data"):
        ReinforcedStore.open(tmp_path, data="f" * 64)
    with pytest.raises(DataError, match="teachers wide"):
        ReinforcedStore.open(tmp_path, teachers={**known, "small": "0" * 64})


def test_manifests_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json"):
        ReinforcedStore.open(tmp_path)
    write_store(tmp_path, example_set(), teachers(), SETTINGS)
    path = tmp_path / "manifest.json"
    good = json.loads(path.read_text())
    bad: list[object] = [[], {}, {**good, "schema_version": 9}, {**good, "settings": {}}, {**good, "captions": []}]
    bad += [{**good, "teachers": [{"name": "a"}]}, {**good, "captions": None}, {**good, "settings": 3}]
    for content in bad:
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"manifest\.json"):
            ReinforcedStore.open(tmp_path)
        with pytest.raises(DataError, match=r"manifest\.json"):
            write_store(tmp_path, example_set(), teachers(), SETTINGS)
    path.write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        write_store(tmp_path, example_set(), teachers(), SETTINGS)
    path.unlink()
    with pytest.raises(DataError, match="shards without"):
        write_store(tmp_path, example_set(), teachers(), SETTINGS)


def test_what_a_teacher_gets_wrong_is_said(tmp_path: Path) -> None:
    class Wrong(Fake):
        def __init__(self, answer: np.ndarray) -> None:
            super().__init__("wrong", 2)
            self.answer = answer

        def embed_images(self, batch: np.ndarray) -> np.ndarray:
            return np.broadcast_to(self.answer, (len(batch), *self.answer.shape))

    half = replace(SETTINGS, dtype="float16")
    for match, answer in (
        (r"\(12, 3\); expected \(12, 2\)", np.zeros(3)),
        ("NaN", np.array([np.nan, 0])),
        ("past float16.*Store float32", np.array([1e6, 0])),
        (r"\(12,\)", np.array(0.0)),
    ):
        with pytest.raises(ModelError, match=match):
            write_store(tmp_path / "s", example_set(), [Wrong(answer)], half)
    for wrong in ([], [Fake("a", 2), Fake("a", 2)]):
        with pytest.raises(DataError, match="teachers"):
            write_store(tmp_path / "t", example_set(), wrong, half)
    with pytest.raises(DataError, match="dtype"):
        replace(SETTINGS, dtype="int8")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="can be written"):
        write_store(tmp_path / "file", example_set(), teachers(), SETTINGS)
