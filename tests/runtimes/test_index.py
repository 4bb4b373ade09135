"""Indexes: exact, deterministic, safe on disk, resumable, and of one model only."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekit.bundle import read_tensors, write_tensors
from edgekit.errors import BundleError, EngineError, InputError
from edgekit.runtimes import index_build
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.index import Index, recall
from edgekit.runtimes.index_build import build_index, index_texts
from edgekit.runtimes.vision.pipeline import ImagePipeline
from tests.runtimes import duals
from tests.runtimes.duals import COLOURS, picture

HASH = "a" * 64


def rows(count: int, dim: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def made(embeddings: np.ndarray, precision: str = "float32") -> Index:
    index = Index(embeddings.shape[1], HASH, precision=precision)
    index.add([f"{n}.jpg" for n in range(len(embeddings))], embeddings)
    return index


@settings(deadline=None, max_examples=150)
@given(
    count=st.integers(1, 60),
    dim=st.integers(1, 40),
    k=st.integers(1, 70),
    distinct=st.integers(1, 8),
    seed=st.integers(0, 1000),
    precision=st.sampled_from(["float32", "int8"]),
)
def test_search_is_exact_and_ties_go_by_place(
    count: int, dim: int, k: int, distinct: int, seed: int, precision: str
) -> None:
    few = rows(distinct, dim, seed)
    embeddings = few[np.random.default_rng(seed).integers(0, distinct, count)]  # many equal rows
    index, queries = made(embeddings, precision), rows(3, dim, seed + 1)
    found = index.search(queries, k)
    exact = np.stack([(index.embeddings().astype(np.float64) * query).sum(1) for query in queries])
    for hits, cosines in zip(found, exact, strict=True):
        order = np.lexsort((np.arange(count), -cosines))[:k]
        assert [hit.place for hit in hits] == order.tolist()
        np.testing.assert_allclose([hit.cosine for hit in hits], cosines[order], atol=1e-6)
        assert [hit.name for hit in hits] == [f"{place}.jpg" for place in order]
    assert [index.search(query[None], k)[0] for query in queries] == found


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(0, 90), max_size=6), precision=st.sampled_from(["float32", "int8"]))
def test_adding_in_parts_is_adding_at_once(sizes: list[int], precision: str) -> None:
    embeddings = rows(sum(sizes), 12) * 3.5  # of any length: they are normalised
    whole, parts = made(embeddings, precision), Index(12, HASH, precision=precision)
    start = 0
    for size in sizes:
        names = [f"{n}.jpg" for n in range(start, start + size)]
        parts.add(names, embeddings[start : start + size])
        start += size
    assert len(parts) == len(whole) == sum(sizes)
    assert parts.names == whole.names
    np.testing.assert_array_equal(parts.embeddings(), whole.embeddings())
    kept = list(range(0, sum(sizes), 3))
    parts.keep(kept)
    np.testing.assert_array_equal(parts.embeddings(), whole.embeddings(kept))
    parts.add(["new"], rows(1, 12, 9))
    assert parts.search(rows(1, 12, 9), 1)[0][0].name == "new"


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_save_and_load(precision: str, tmp_path: Path) -> None:
    index = Index(7, HASH, "text", precision)
    names = ["a", "ü 日本", 'quote " and \\', "half \udc80 of a pair", "a"]
    index.add(names, rows(5, 7), ["1", "2", "3", "4", ""])
    index.save(tmp_path / "index.safetensors")
    again = Index.load(tmp_path / "index.safetensors")
    assert (again.model, again.kind, again.precision, again.dim) == (HASH, "text", precision, 7)
    assert (again.names, again.stamps) == (names, ["1", "2", "3", "4", ""])
    np.testing.assert_array_equal(again.embeddings(), index.embeddings())
    assert again.search(rows(2, 7, 3), 3) == index.search(rows(2, 7, 3), 3)
    again.add(["later"] * 200, rows(200, 7, 4))
    assert len(again) == 205
    assert [path.name for path in tmp_path.iterdir()] == ["index.safetensors"]
    empty = Index(7, HASH)
    empty.save(tmp_path / "empty.safetensors")
    assert Index.load(tmp_path / "empty.safetensors").search(rows(2, 7), 3) == [[], []]


def test_int8_is_a_quarter_and_finds_the_same(tmp_path: Path) -> None:
    exact = made(rows(3000, 256))
    small = exact.to_int8()
    exact.save(tmp_path / "exact")
    small.save(tmp_path / "small")
    assert (tmp_path / "small").stat().st_size < 0.3 * (tmp_path / "exact").stat().st_size
    np.testing.assert_allclose(small.embeddings(), exact.embeddings(), atol=np.abs(exact.embeddings()).max() / 253)
    queries = rows(50, 256, 1)
    assert 0.9 < recall(exact, small, queries, 10) < 1
    assert recall(exact, exact, queries, 10) == 1
    backwards = made(rows(3000, 256)[::-1].copy())
    assert recall(exact, backwards, queries, 10) < 0.1, "it compares entries, not scores"
    with pytest.raises(InputError, match="expected the same entries"):
        recall(exact, made(rows(3, 256)), queries)


def test_int8_on_real_clip_embeddings(shared_data: Path) -> None:
    file = shared_data / "image_text" / "flickr8k" / "clip_vitb32_image_embeddings.npz"
    if not file.is_file():
        pytest.skip(f"no embeddings at {file}")
    with np.load(file, allow_pickle=False) as held:
        embeddings = held["embeddings"].astype(np.float32)
    exact = made(embeddings)
    assert recall(exact, exact.to_int8(), embeddings[::20], 10) > 0.97


def test_a_row_of_zeros_is_far_from_all() -> None:
    embeddings = rows(4, 5)
    embeddings[2] = 0
    for precision in ("float32", "int8"):
        assert made(embeddings, precision).search(embeddings[:1], 4)[0][0].place == 0
        (hit,) = [hit for hit in made(embeddings, precision).search(embeddings[:1], 4)[0] if hit.place == 2]
        assert hit.cosine == 0


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    index = made(rows(5, 4))
    for ask, message in (
        (lambda: Index(0, HASH), "dim"),
        (lambda: Index(4, HASH, "sound"), "kind; found 'sound'"),
        (lambda: Index(4, HASH, precision="int4"), "precision; found 'int4'"),
        (lambda: index.add(["a"], rows(2, 4)), r"embeddings; found float32 \(2, 4\); expected float32 \(1, 4\)"),
        (lambda: index.add(["a"], rows(1, 5)), "embeddings"),
        (lambda: index.add(["a"], rows(1, 4).astype(np.int64)), "int64"),
        (lambda: index.add(["a"], rows(1, 4), []), "stamps"),
        (lambda: index.search(rows(1, 5)), r"queries; .*expected float32 \(q, 4\)"),
        (lambda: index.search(rows(1, 4)[0]), "queries"),
        (lambda: index.search(rows(1, 4), 0), "k; found 0"),
        (lambda: index.check_model("b" * 64), "found one made by model aaaaaaaaaaaa; expected bbbbbbbbbbbb"),
    ):
        with pytest.raises(InputError, match=message):
            ask()
    with pytest.raises(EngineError, match="NaN"):
        index.add(["a"], np.full((1, 4), np.nan, np.float32))
    assert len(index) == 5
    index.check_model(HASH)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.index"
    made(rows(5, 4), "int8").save(path)
    good = read_tensors(path)

    def changed(**tensors: np.ndarray | None) -> bytes:
        return write_tensors({name: value for name, value in {**good, **tensors}.items() if value is not None})

    words = good["about"].tobytes()
    say = lambda old, new: np.frombuffer(words.replace(old, new), np.uint8)  # noqa: E731
    for data, message in (
        (changed(rows=None), "rows"),
        (changed(rows=good["rows"].astype(np.int32)), "rows"),
        (changed(rows=good["rows"][0]), "rows"),
        (changed(rows=good["rows"][:4]), "scales"),
        (changed(scales=None), "scales"),
        (changed(scales=good["scales"] * np.nan), "expected unit length"),
        (changed(scales=good["scales"] * 1000), "expected unit length"),
        (changed(rows=rows(5, 4) * 9, scales=None), "expected unit length"),
        (changed(about=None), "about"),
        (changed(about=say(b'"4.jpg"', b"4")), "names"),
        (changed(about=say(b', "4.jpg"', b"")), "names; found 4 texts; expected 5"),
        (changed(about=say(b'"image"', b'"sound"')), "kind"),
        (changed(about=say(b'"schema_version": 1', b'"schema_version": 2')), "schema_version; found 2; expected 1"),
        (path.read_bytes()[:-5], "data_offsets"),
        (b"PK\3\4", "4 bytes"),
    ):
        path.write_bytes(data)
        with pytest.raises(BundleError, match=rf"bad\.index.*{message}"):
            Index.load(path)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> DualModel:
    return duals.model(tmp_path_factory.mktemp("colours"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 pictures in two folders, two files that are none, one that says so."""
    for number in range(4):
        for name, rgb in COLOURS.items():
            where = tmp_path / "pictures" / ("b" if number % 2 else "a")
            where.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(rgb, 20 + number)).save(where / f"{name}-{number}.PNG")
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (tmp_path / "pictures" / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "pictures" / "notes.txt").write_text("red")
    return tmp_path / "pictures"


class Listener:
    def __init__(self) -> None:
        self.steps: list[int] = []

    def start(self, label: str, total: int) -> int:
        self.steps += [total, 0]
        return 0

    def advance(self, handle: int, steps: int = 1, note: str = "") -> None:
        self.steps[-1] += steps

    def finish(self, handle: int) -> None:
        return None

    def say(self, line: str) -> None:
        return None


def test_a_folder_of_pictures(colours: DualModel, folder: Path) -> None:
    listener = Listener()
    built = build_index(folder, colours, listener)
    assert listener.steps == [26, 26]
    assert (built.added, built.kept, built.dropped) == (24, 0, 0)
    assert [skipped.name for skipped in built.skipped] == ["a/empty.png", "broken.jpg"]
    assert all(name in reason for name, reason in built.skipped)
    assert built.index.names == sorted(built.index.names)
    assert "a/red-0.PNG" in built.index.names
    hits = colours.search("a photo of a yellow thing", built.index, k=5)
    assert [hit.name for hit in hits[:4]] == ["a/yellow-0.PNG", "a/yellow-2.PNG", "b/yellow-1.PNG", "b/yellow-3.PNG"]
    assert "yellow" not in hits[4].name
    assert colours.search(picture(COLOURS["black"]), built.index, 1)[0].name == "a/black-0.PNG"


def counting(model: DualModel, fail_after: int = 10**9) -> tuple[DualModel, list[int]]:
    """``model``, the number of pictures that each call of its tower got, and a tower that then breaks."""
    seen: list[int] = []

    def forward(values: np.ndarray) -> np.ndarray:
        if sum(seen) + len(values) > fail_after:
            raise KeyboardInterrupt
        seen.append(len(values))
        return model.images.forward(values)

    return DualModel(
        ImagePipeline(model.images.preprocessor, forward), model.text, model.spec, None, model.digest
    ), seen


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_interrupted_run_goes_on(colours: DualModel, folder: Path, tmp_path: Path, precision: str) -> None:
    out = tmp_path / "index"
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, counting(colours, 17)[0], out=out, precision=precision)
    assert len(Index.load(out)) == 16
    other, seen = counting(colours)
    built = build_index(folder, other, out=out, precision=precision)
    assert (built.added, built.kept, sum(seen)) == (8, 16, 8)
    at_once = build_index(folder, colours, precision=precision).index
    again = Index.load(out)
    assert again.names == at_once.names
    np.testing.assert_allclose(again.embeddings(), at_once.embeddings(), atol=1e-6)
    other, seen = counting(colours)
    assert build_index(folder, other, out=out, precision=precision).kept == 24
    assert seen == []


def test_it_is_saved_now_and_then(
    colours: DualModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_build, "SAVE_EVERY", 8)
    sizes: list[int] = []
    save = Index.save
    monkeypatch.setattr(Index, "save", lambda self, path: sizes.append(len(self)) or save(self, path))
    build_index(folder, colours, out=tmp_path / "index")
    assert sizes == [8, 16, 24]


def test_changed_and_removed_files_are_seen(colours: DualModel, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index(folder, colours, out=out)
    changed, gone = folder / "a" / "red-0.PNG", folder / "a" / "red-2.PNG"
    Image.fromarray(picture(COLOURS["blue"], 31)).save(changed)
    os.utime(changed, ns=(1, 1))
    gone.unlink()
    built = build_index(folder, colours, out=out)
    assert (built.added, built.kept, built.dropped) == (1, 22, 2)
    again = Index.load(out)
    assert "a/red-2.PNG" not in again.names
    hits = colours.search(picture(COLOURS["blue"]), again, 5)
    assert "a/red-0.PNG" in [hit.name for hit in hits]


def test_an_index_of_something_else_is_left_alone(colours: DualModel, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index(folder, colours, out=out)
    before = out.read_bytes()
    other = DualModel(colours.images, colours.text, digest="0" * 64)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.fromarray(picture((1, 2, 3))).save(elsewhere / "x.png")
    for ask, message in (
        (lambda: build_index(folder, other, out=out), "made by model ffffffffffff; expected 000000000000"),
        (lambda: build_index(folder, colours, out=out, precision="int8"), "found an index of image, float32"),
        (lambda: build_index(elsewhere, colours, out=out), "found an index of another folder"),
    ):
        with pytest.raises(InputError, match=message):
            ask()
    assert out.read_bytes() == before
    out.write_bytes(before[:100])
    with pytest.raises(BundleError, match="index"):
        build_index(folder, colours, out=out)


def test_folders_without_pictures(colours: DualModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no folder"):
        build_index(tmp_path / "absent", colours)
    with pytest.raises(InputError, match="pictures; found none; expected at least one of"):
        build_index(tmp_path, colours, out=tmp_path / "index")
    (tmp_path / "x.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="pictures; found 1 that cannot be read"):
        build_index(tmp_path, colours, out=tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_texts(colours: DualModel) -> None:
    texts = [f"a photo of a {name} thing, number {n}" for n in range(60) for name in COLOURS]
    index = index_texts(texts, colours)
    assert (index.kind, len(index)) == ("text", 360)
    hits = colours.search(picture(COLOURS["green"]), index, 60)
    assert all("green" in hit.name for hit in hits)
    with pytest.raises(InputError, match="texts; found none"):
        index_texts([], colours)
    with pytest.raises(InputError, match="neither text tower nor prompt bank"):
        index_texts(texts, DualModel(colours.images, None))
