"""``edgekit reinforce``: the store it leaves, and what it refuses to write over."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from edgekit.data.store import ReinforcedStore
from tests.export import duals


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reinforce-cli")
    duals.saved(root / "teacher", "vit")
    lines = ["image\tcaption"]
    for number, (picture, caption) in enumerate(duals.examples(3)):
        Image.fromarray(picture).save(root / f"{number}.png")
        lines.append(f"{number}.png\t{caption}")
    (root / "captions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def test_a_store_is_written_and_taken_up(edgekit, place: Path, tmp_path: Path) -> None:
    given = ("reinforce", "-m", place / "teacher", "-d", place / "captions.tsv", "-o", tmp_path / "store",
             "--augmentations", 2, "--shard-size", 2, "--format", "json")  # fmt: skip
    done = edgekit(*given)
    assert done.code == 0, done.err
    assert {key: done.json[key] for key in ("pictures", "captions", "augmentations", "shards", "dtype")} == {
        "pictures": 3, "captions": 3, "augmentations": 2, "shards": 2, "dtype": "float16",
    }  # fmt: skip
    assert done.json["teachers"][0]["name"] == "teacher"
    assert len(ReinforcedStore.open(tmp_path / "store")) == 3
    assert edgekit(*given).code == 0, "there is nothing left to do"
    other = edgekit(*given, "--seed", 1)
    assert other.code == 2 and "settings" in other.err


def test_what_is_not_a_store_is_left_alone(edgekit, place: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = edgekit("reinforce", "-m", place / "teacher", "-d", place / "captions.tsv", "-o", tmp_path)
    assert done.code == 2 and "other files" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    for wrong in (("--dtype", "int8"), ("--augmentations", 0), ("-m", tmp_path / "nothing")):
        done = edgekit("reinforce", "-m", place / "teacher", "-d", place / "captions.tsv", "-o", tmp_path / "s", *wrong)
        assert done.code == 2 and not (tmp_path / "s").exists()
