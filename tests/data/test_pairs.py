"""The data of a recipe for task clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.data import PictureTextSet, TextSet, load_parts
from edgekit.data.captions import read_captions
from edgekit.data.embeddings import read_embeddings
from edgekit.data.pairs import with_targets
from edgekit.data.pictures import PictureSplits
from edgekit.errors import DataError, RecipeError
from edgekit.progress import Silent
from edgekit.recipe import DataConfig


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 noisy pictures with two captions each."""
    folder = tmp_path_factory.mktemp("captions")
    random = np.random.default_rng(0)
    lines = ["image\tcaption"]
    for i in range(40):
        Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        lines += [f"{i}.png\tpicture {i}", f"{i}.png\tnoise number {i}"]
    (folder / "captions.tsv").write_text("\n".join(lines), "utf-8")
    return folder / "captions.tsv"


def load(**data: object) -> PictureSplits[PictureTextSet]:
    found = load_parts(DataConfig.model_validate(data), "clip", 0, Silent())
    assert isinstance(found, PictureSplits)
    return found


def test_parts_are_cut_by_picture(captions: Path) -> None:
    splits = load(train=str(captions), validation_fraction=0.2, test_fraction=0.2)
    parts = [splits.train, splits.validation, splits.test]
    assert sum(len(part) for part in parts) == 40
    digests = [set(part.pictures.digests) for part in parts]
    assert not (digests[0] & digests[1] or digests[0] & digests[2] or digests[1] & digests[2])
    again = load(train=str(captions), validation_fraction=0.2, test_fraction=0.2)
    assert again.fingerprint == splits.fingerprint and splits.names == []


def test_a_bound_on_training_pictures_is_stated_and_changes_the_fingerprint(captions: Path) -> None:
    whole = load(train=str(captions))
    some = load(train=str(captions), max_examples=10)
    assert len(some.train) == 10 and len(some.test) == len(whole.test)
    assert "train: 10 of" in " ".join(some.rules) and some.fingerprint != whole.fingerprint


def test_rendered_pictures_need_nothing() -> None:
    splits = load(train="rendered", max_examples=1000)
    assert len(splits.train) == 1000 and splits.zero_shot is not None
    with pytest.raises(RecipeError, match="rendered alone"):
        load(train="rendered", test="rendered")


def test_what_cannot_be_read_is_named(captions: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.train"):
        load(train=[str(captions), str(captions)])
    with pytest.raises(DataError, match="nowhere"):
        load(train=str(captions.with_name("nowhere.tsv")))
    with pytest.raises(DataError, match="text"):
        load(train={"path": str(captions), "text": "text"})


def test_samples_and_spreads_of_every_kind_of_set(captions: Path) -> None:
    texts = TextSet([f"{'x' * (i % 7)} {i}" for i in range(50)] * 2)
    assert texts.sample(10, 0) == texts.sample(10, 0) != texts.sample(10, 1)
    assert len(texts.sample(1000, 0)) == 100
    spread = texts.spread(10)
    assert [len(text) for text in spread] == sorted(len(text) for text in spread) and len(set(spread)) == 10
    pictures = load(train=str(captions)).train
    for examples in (pictures.sample(3, 0), pictures.spread(3)):
        assert len(examples) == 3
        assert all(picture.shape == (8, 8, 3) and caption.startswith("picture") for picture, caption in examples)


def cached(folder: Path, names: list[str]) -> str:
    """A file of embeddings of ``names``, not of unit length: the number in the name, and 0.1 three times."""
    rows = np.full((len(names), 4), 0.1, np.float32)
    rows[:, 0] = [float(name.split(".")[0]) for name in names]
    np.savez(folder / "cache.npz", names=np.array(names), embeddings=rows, model=np.array("ViT"))
    return str(folder / "cache.npz")


def test_a_cached_teacher_leaves_out_what_it_does_not_name(captions: Path, tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(39, -1, -1) if i not in (7, 8)]  # in an order of their own
    source = {"path": str(captions), "embeddings": cached(tmp_path, names)}
    splits, plain = load(train=source), load(train=str(captions))
    parts = [splits.train, splits.validation, splits.test]
    assert sum(len(part) for part in parts) == 38
    assert any("2 pictures dropped: no embedding of the cached teacher" in rule for rule in splits.rules)
    for part in parts:
        assert part.targets is not None and part.targets.shape == (len(part), 4) and part.targets.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(part.targets, axis=1), 1, atol=1e-6)
        numbers = np.array([float(Path(name).stem) for name in part.pictures.names])
        np.testing.assert_allclose(part.targets[:, 0] / part.targets[:, 1], numbers * 10, rtol=1e-5)
        assert [part.captions_of(row)[0] for row in range(len(part))] == [f"picture {i:.0f}" for i in numbers]
    some = splits.train.take([3, 0])
    np.testing.assert_array_equal(some.targets, splits.train.targets[[3, 0]])
    assert splits.fingerprint != plain.fingerprint and plain.train.targets is None


def test_the_order_of_the_captions_stays(captions: Path, tmp_path: Path) -> None:
    whole = read_captions(captions)
    found = with_targets(whole, read_embeddings(cached(tmp_path, ["9.png", "3.png", "30.png", "99.png"])))
    assert found.pictures.names == [name for name in whole.pictures.names if name in ("9.png", "3.png", "30.png")]
    assert len(found.captions) == 6


def test_cached_teachers_that_cannot_be_followed(captions: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 40 pictures, such as 0\.png"):
        load(train={"path": str(captions), "embeddings": cached(tmp_path, ["77.jpg"])})
    taught = {"path": str(captions), "embeddings": cached(tmp_path, [f"{i}.png" for i in range(40)])}
    for part in ("test", "validation"):
        with pytest.raises(RecipeError, match=rf"data\.{part}\.embeddings"):
            load(train=taught, **{part: str(captions)})
        with pytest.raises(RecipeError, match=rf"data\.{part}\.embeddings"):
            load(train=str(captions), **{part: taught})
