"""Hostile pictures, texts and indexes: a typed error, or an answer, in little time and memory."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import edgekit
from edgekit.errors import EdgekitWarning, InputError
from edgekit.runtimes.dual import DualModel
from edgekit.runtimes.model import Model

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def dual(made: dict[str, Path]) -> DualModel:
    found = edgekit.load(made["dual"], threads=1)
    assert isinstance(found, DualModel)
    return found


@pytest.fixture(scope="module")
def text(made: dict[str, Path]) -> Model:
    found = edgekit.load(made["text"], threads=1)
    assert isinstance(found, Model)
    return found


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes = b"", more: bytes = b"") -> bytes:
    """A PNG that claims ``width`` x ``height`` RGB pixels and has ``rows``."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1 << 20, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 16)]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + b"\0\0\0\0"


def jpeg() -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)).save(held, "JPEG")
    return held.getvalue()


def claims(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header tells another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


MEGA = 1_000_000
BOMB = zlib.compress(bytes(200 * MEGA), 9)
PICTURES: dict[str, bytes] = {
    "png of 2^31 x 2^31": png(2**31 - 1, 2**31 - 1),
    "png of 100,000 x 100,000 in a kilobyte": png(10**5, 10**5, bytes(MEGA)),
    "png of 9,500 x 9,500": png(9500, 9500, bytes(MEGA)),
    "png of no width": png(0, 10),
    "png with a text that unpacks to 200 MB": png(4, 4, b"", chunk(b"zTXt", b"k\0\0" + BOMB)),
    "png with a profile that unpacks to 200 MB": png(4, 4, b"", chunk(b"iCCP", b"k\0\0" + BOMB)),
    "png that is too short": png(1000, 1000, bytes(5000)),
    "png with a wrong checksum": png(4, 4, bytes(52))[:29] + b"\0\0\0\0" + png(4, 4, bytes(52))[33:],
    "jpeg of 65,500 x 65,500": claims(jpeg(), 65500, 65500),
    "jpeg cut in the middle": jpeg()[: len(jpeg()) // 2],
    "jpeg of no height": claims(jpeg(), 0, 64),
    "gif of 65,535 x 65,535": b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;",
    "bmp of 2^31 x 1": bmp(2**31 - 1, 1),
    "bmp upside down without end": bmp(50_000, -(2**31) + 1),
    "tiff of 2^32 x 2^32": tiff(2**32 - 1, 2**32 - 1),
    "tiff whose strip is elsewhere": tiff(64, 64),
    "ppm of 10^9 x 10^9": b"P6 1000000000 1000000000 255\n",
    "ppm with a number of a million digits": b"P6 " + b"9" * MEGA + b" 1 255\n",
    "webp without a frame": b"RIFF\x10\0\0\0WEBPVP8 \x04\0\0\0\0\0\0\0",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "a pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x05posix\x94.",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_hostile_picture(dual: DualModel, name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            dual.embed_images([PICTURES[name]])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "picture" in str(caught.value)
    assert peak < 300 << 20


@pytest.mark.parametrize("shape", [(1, 60_000, 3), (60_000, 1, 3)])
def test_a_picture_as_narrow_as_a_hair(dual: DualModel, shape: tuple[int, ...]) -> None:
    assert dual.embed_images([np.zeros(shape, np.uint8)]).shape[0] == 1
    with pytest.raises(InputError):
        dual.embed_images([np.zeros((1, 2_000_000, 3), np.uint8)])


def test_an_animation_without_end_gives_its_first_frame(dual: DualModel) -> None:
    held = io.BytesIO()
    frames = [Image.new("P", (8, 8), i % 256) for i in range(300)]
    frames[0].save(held, "GIF", save_all=True, append_images=frames[1:])
    assert dual.embed_images([held.getvalue()]).shape[0] == 1


def test_a_comment_is_never_looked_at(dual: DualModel) -> None:
    held, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("Comment", "__import__('os').system('false')" * 1000)
    Image.new("RGB", (8, 8)).save(held, "PNG", pnginfo=info)
    assert dual.embed_images([held.getvalue()]).shape[0] == 1


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/stdin", "/proc/self/mem", "pipe", "folder", "a\0b", "x" * 5000])
def test_a_path_that_is_no_picture(dual: DualModel, tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    path: Any = place if place.startswith("/") else tmp_path / place
    with pytest.raises(InputError):
        dual.embed_images([path])


@pytest.mark.parametrize("given", [None, 7, b"text", {"a": 1}, ["fine", None], ["\ud800"], [float("nan")], [["a"]]])
def test_what_is_no_text(text: Model, dual: DualModel, given: Any) -> None:
    with pytest.raises(InputError):
        text.run(given)
    with pytest.raises(InputError):
        dual.embed_texts(given)


HOSTILE = {
    "a word of a million letters": "a" * MEGA,
    "marks on one letter": "e" + "\u0301" * 100_000,
    "right to left": "\u202e" * 10_000 + "good",
    "the special tokens": "[SEP][CLS][PAD][MASK]<|endoftext|>" * 1000,
    "controls": "".join(map(chr, range(32))) * 1000,
    "nothing that is shown": "\u200b\u00ad\ufeff" * 10_000,
    "the last of Unicode": "\U0010ffff" * 10_000,
    "spaces": " \u3000\t" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_has_an_answer(text: Model, dual: DualModel, name: str) -> None:
    assert np.isfinite(text.logits(HOSTILE[name])).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgekitWarning)  # that its end is dropped
        assert np.isfinite(dual.embed_texts(HOSTILE[name][:20_000])).all()
