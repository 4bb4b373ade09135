"""Picture files and the tables and folders that list them: what is read, what is left out, what is an error."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgekit.data.captions import read_captions
from edgekit.data.folders import read_folder
from edgekit.data.pictures import ArrayPictures, PictureSet, PictureTextSet, decode, fingerprint
from edgekit.errors import DataError


def encoded(value: int = 0, form: str = "PNG", size: tuple[int, int] = (9, 6), **options) -> bytes:
    """A picture file whose pixels depend on ``value``."""
    pixels = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def pictures(folder: Path, count: int, start: int = 0) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"p{start + row}.png" for row in range(count)]
    for row, name in enumerate(names):
        (folder / name).write_bytes(encoded(start + row))
    return names


def listed(found: PictureTextSet) -> dict[str, list[str]]:
    return {name: found.captions_of(row) for row, name in enumerate(found.pictures.names)}


# --- one picture


def test_pictures_come_as_rgb_and_upright() -> None:
    wide = Image.new("RGB", (8, 4), (10, 20, 30))
    wide.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    out = io.BytesIO()
    wide.save(out, "PNG", exif=exif)
    upright = decode(out.getvalue(), "a")
    assert upright.shape == (8, 4, 3)
    assert upright[0, 3].tolist() == [255, 0, 0]

    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    out = io.BytesIO()
    clear.save(out, "PNG")
    assert decode(out.getvalue(), "a").tolist() == [[[255] * 3] * 2] * 2  # transparent is white

    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    out = io.BytesIO()
    deep.save(out, "PNG")
    assert decode(out.getvalue(), "a")[0, :, 0].tolist() == [0, 100, 255]

    out = io.BytesIO()
    Image.new("CMYK", (3, 3), (0, 255, 255, 0)).save(out, "JPEG")
    assert decode(out.getvalue(), "a").shape == (3, 3, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_past_the_pixel_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(size=(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow itself only warns below twice as many
    with pytest.raises(DataError, match="picture big"):
        decode(data, "big")


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), st.randoms(use_true_random=False))
def test_damaged_files_decode_or_raise_a_typed_error(form: str, random: random.Random) -> None:
    data = bytearray(encoded(form=form, size=(16, 16)))
    for _ in range(random.randint(0, 4)):
        data[random.randrange(min(len(data), 200))] = random.randrange(256)
    data = data[: random.randint(0, len(data))]
    try:
        found = decode(bytes(data), "damaged")
    except DataError:
        return  # the one error that may come out
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3


# --- tables of captions

names_and_captions = st.lists(
    st.tuples(
        st.sampled_from(["p0.png", "p1.png", "p2.png"]),
        st.text(st.characters(codec="utf-8", exclude_characters='\r\n\t"'), min_size=1, max_size=20)
        .map(str.strip)
        .filter(bool),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=12, deadline=None)
@given(names_and_captions)
def test_every_format_gives_the_same_set(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    folder = tmp_path_factory.mktemp("set")
    pictures(folder, 3)
    expected: dict[str, list[str]] = {}
    for name, caption in rows:
        own = expected.setdefault(name, [])
        if caption not in own:
            own.append(caption)
    (folder / "a.tsv").write_bytes(("image\tcaption\n" + "".join(f"{a}\t{b}\n" for a, b in rows)).encode())
    (folder / "a.csv").write_bytes(("image,caption\n" + "".join(f'{a},"{b}"\n' for a, b in rows)).encode())
    lines = [json.dumps({"file_name": a, "text": b}) for a, b in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    lines = [json.dumps({"image": a, "captions": b}) for a, b in expected.items()]
    (folder / "lists.jsonl").write_text("\n".join(lines))
    columns = {"image": [a for a, _ in rows], "caption": [b for _, b in rows]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "a.parquet")
    found = [read_captions(folder / name) for name in ("a.tsv", "a.csv", "rows.jsonl", "lists.jsonl", "a.parquet")]
    assert all(listed(one) == expected for one in found)
    assert len({fingerprint(one) for one in found}) == 1


def test_pictures_inside_a_parquet_file(tmp_path: Path) -> None:
    cells = [{"bytes": encoded(1), "path": "one.png"}, {"bytes": encoded(2), "path": None}]
    table = pyarrow.table({"image": cells, "caption": [["a", "b"], ["c"]]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found = read_captions(tmp_path / "a.parquet")
    assert listed(found) == {"one.png": ["a", "b"], "row 1": ["c"]}
    assert np.array_equal(found.pictures.open(0), decode(encoded(1), "one"))


def test_folder_of_the_pictures_and_several_caption_columns(tmp_path: Path) -> None:
    pictures(tmp_path / "elsewhere", 2)
    (tmp_path / "a.csv").write_text("name,en,de\np0.png,a dog,ein Hund\np1.png,a cat,\n")
    found = read_captions(tmp_path / "a.csv", folder=tmp_path / "elsewhere", image="name", caption=["en", "de"])
    assert listed(found) == {"p0.png": ["a dog", "ein Hund"], "p1.png": ["a cat"]}
    with pytest.raises(DataError, match="2 of 2 pictures missing"):
        read_captions(tmp_path / "a.csv", image="name", caption="en")


def test_no_header_and_images_beside_the_file(tmp_path: Path) -> None:
    pictures(tmp_path / "images", 2)
    (tmp_path / "a.tsv").write_text("p0.png\ta dog\np1.png\ta cat\n")
    found = read_captions(tmp_path / "a.tsv")
    assert listed(found) == {"p0.png": ["a dog"], "p1.png": ["a cat"]}
    assert any("images" in rule for rule in found.rules)


def test_few_unreadable_pictures_are_left_out_and_stated(tmp_path: Path) -> None:
    names = pictures(tmp_path, 100)
    (tmp_path / names[3]).write_bytes(encoded(3)[:-30])
    (tmp_path / "a.csv").write_text("image,caption\n" + "".join(f"{name},c {name}\n" for name in names))
    found = read_captions(tmp_path / "a.csv")
    assert len(found) == 99 and "p3.png" not in found.pictures.names
    assert found.captions_of(3) == ["c p4.png"]
    assert any("1 picture left out" in rule and "p3.png" in rule for rule in found.rules)
    (tmp_path / names[4]).unlink()
    with pytest.raises(DataError, match=r"2 of 100 pictures missing or unreadable .*p4\.png: no such file"):
        read_captions(tmp_path / "a.csv")


def test_a_truncated_jpeg_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(form="JPEG", size=(200, 200))[:-2000])
    (tmp_path / "a.csv").write_text("image,caption\na.jpg,x\n")
    with pytest.raises(DataError, match="1 of 1 pictures"):
        read_captions(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.csv", b"", "empty file"),
        ("a.csv", b"image,caption\n", "no rows"),
        ("a.csv", b"image,caption\n,\n", "none with a picture"),
        ("a.csv", b"image,a,b\np0.png,x,y\n", "no caption column among image, a, b"),
        ("a.csv", b"a,caption\nx,y\n", "no image column"),
        ("a.csv", b"image,caption\np0.png,caf\xe9\n", "line 2"),
        ("a.jsonl", b'{"image": 3, "caption": "x"}', "int in column `image`"),
        ("a.jsonl", b'{"image": "p0.png", "caption": 5}', "int in column `caption`"),
        ("a.txt", b"x", "suffix"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    pictures(tmp_path, 1)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=match):
        read_captions(tmp_path / name)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "captions.tsv").write_text("x")
    with pytest.raises(DataError, match="Did you mean"):
        read_captions(tmp_path / "caption.tsv")


def test_another_encoding_is_read_when_named(tmp_path: Path) -> None:
    pictures(tmp_path, 1)
    (tmp_path / "a.csv").write_bytes("image,caption\np0.png,café\n".encode("cp1252"))
    assert read_captions(tmp_path / "a.csv", encoding="cp1252").captions == ["café"]


# --- sets


def test_take_keeps_captions_with_their_pictures() -> None:
    arrays = [np.full((2, 2, 3), value, np.uint8) for value in range(4)]
    whole = PictureTextSet(ArrayPictures.of(arrays), ["a", "b", "b2", "c", "d"], np.array([0, 1, 1, 2, 3]))
    part = whole.take([3, 1])
    assert part.captions == ["d", "b", "b2"] and part.picture_of.tolist() == [0, 1, 1]
    assert part.pictures.open(0)[0, 0, 0] == 3
    assert part.captions_of(1) == ["b", "b2"]
    assert fingerprint(whole) == fingerprint(whole.take(range(4))) != fingerprint(whole.take([1, 0, 2, 3]))


def test_the_fingerprint_sees_pixels_captions_and_labels() -> None:
    one, two = (
        ArrayPictures.of([np.full((2, 2, 3), value, np.uint8), np.zeros((1, 1, 3), np.uint8)]) for value in (1, 2)
    )
    at = np.arange(2)
    sets = [
        PictureTextSet(one, ["a", "b"], at),
        PictureTextSet(two, ["a", "b"], at),
        PictureTextSet(one, ["a", "c"], at),
        PictureTextSet(one, ["ab", ""], at),
        PictureSet(one, at, ["x", "y"]),
        PictureSet(one, at[::-1].copy(), ["x", "y"]),
        PictureSet(one, at, ["x", "z"]),
    ]
    assert len({fingerprint(one) for one in sets}) == len(sets)


def test_sets_that_do_not_fit_together_are_refused() -> None:
    arrays = ArrayPictures.of([np.zeros((1, 1, 3), np.uint8)] * 2)
    with pytest.raises(DataError, match="none without a caption"):
        PictureTextSet(arrays, ["a"], np.array([1]))
    with pytest.raises(DataError, match="ascending"):
        PictureTextSet(arrays, ["a", "b"], np.array([1, 0]))
    with pytest.raises(DataError, match="labels"):
        PictureSet(arrays, np.array([0, 2]), ["a", "b"])
    with pytest.raises(DataError, match="uint8"):
        ArrayPictures.of([np.zeros((2, 2, 3), np.float32)])  # type: ignore[list-item]


# --- folders


def test_a_folder_a_class(tmp_path: Path) -> None:
    pictures(tmp_path / "n02", 3)
    pictures(tmp_path / "n10" / "deeper", 2, 10)
    (tmp_path / "n10" / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    found = read_folder(tmp_path)
    assert found.names == ["n02", "n10"] and found.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.pictures.names[3] == "n10/deeper/p10.png"
    assert any("1 file left out" in rule for rule in found.rules)
    assert any("no pictures, left out" in rule for rule in found.rules)
    named = read_folder(tmp_path, names={"n02": "zebra", "n10": "ant"})
    assert named.names == ["ant", "zebra"] and named.labels.tolist() == [1, 1, 1, 0, 0]
    assert read_folder(tmp_path, limit=1).labels.tolist() == [0, 1]
    for name, content in (
        ("names.txt", "n02 zebra\n\nn10 army ant\n"),
        ("names.json", '{"n02":"zebra","n10":"army ant"}'),
    ):
        path = tmp_path.parent / f"{tmp_path.name}-{name}"
        path.write_text(content)
        assert read_folder(tmp_path, names=path).names == ["army ant", "zebra"]


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(DataError, match="no folders in it"):
        read_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        read_folder(tmp_path)
    pictures(tmp_path / "a", 2)
    with pytest.raises(DataError, match="one class only, `a`"):
        read_folder(tmp_path)
    pictures(tmp_path / "b", 2)
    with pytest.raises(DataError, match="class `b`, which was not seen in training"):
        read_folder(tmp_path, classes=["a", "c"])
    bad = tmp_path.parent / f"{tmp_path.name}.txt"
    bad.write_text("justone\n")
    with pytest.raises(DataError, match="line 1"):
        read_folder(tmp_path, names=bad)
