"""Pictures to pixel_values: as transformers' reference has it, from whatever they may come as, or a typed error."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from transformers import CLIPImageProcessor

from edgekit.errors import BundleError, InputError, MissingDependencyError
from edgekit.runtimes.vision import ImagePreprocessor, ImageSpec
from edgekit.runtimes.vision.pipeline import ImagePipeline

TOLERANCE = 0.01  # of normalised values: less than one step of 8 bits, which is 0.015


def reference(image: Image.Image, **settings: object) -> np.ndarray:
    return CLIPImageProcessor(**settings)(image, return_tensors="np", input_data_format="channels_last")["pixel_values"]


def noise(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Blocks, gradients and noise: edges as well as detail."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    values = (x * 3 + y * 5) % 256 + (x // 7 + y // 5) % 2 * 90
    return ((values[..., None] + random.integers(0, 120, (height, width, channels))) % 256).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def apart(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype == np.float32
    return float(np.abs(a - b).max())


def some(shared_data: Path, every: int) -> list[Path]:
    folder = shared_data / "image_text"
    if not folder.is_dir():
        pytest.skip(f"no pictures at {folder}")
    return sorted([*folder.glob("imagenette/*/*/*"), *folder.glob("flickr8k/images/*.jpg")])[::every]


def test_real_pictures_are_those_of_the_reference(shared_data: Path) -> None:
    prepare, process = ImagePreprocessor(), CLIPImageProcessor()
    files = some(shared_data, 40)
    assert len(files) > 100
    for path in files:
        expected = process(Image.open(path), return_tensors="np")["pixel_values"]
        assert apart(prepare(path), expected) < TOLERANCE, path


@pytest.mark.slow
def test_every_picture_is_that_of_the_reference(shared_data: Path) -> None:
    prepare, process = ImagePreprocessor(), CLIPImageProcessor()
    worst = max(
        apart(prepare(p), process(Image.open(p), return_tensors="np")["pixel_values"]) for p in some(shared_data, 1)
    )
    assert worst < TOLERANCE


SIZES = [(1, 1), (1, 7), (2, 1), (223, 224), (224, 224), (224, 225), (225, 1000), (640, 480), (1280, 720), (2000, 10)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    assert apart(ImagePreprocessor()(pixels), reference(Image.fromarray(pixels))) < TOLERANCE


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 200),
    height=st.integers(10, 200),
    size=st.integers(1, 60),
    border=st.integers(0, 20),
    resize=st.sampled_from(["shortest_edge", "squash"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    seed=st.integers(0, 5),
)
def test_any_size_and_spec(
    width: int, height: int, size: int, border: int, resize: str, interpolation: str, seed: int
) -> None:
    spec = ImageSpec(size, resize, size + border, interpolation, [0.5, 0.4, 0.3], [0.2, 0.3, 0.5])
    edge = size + border
    expected = reference(
        Image.fromarray(noise(width, height, seed=seed)),
        size={"shortest_edge": edge} if resize == "shortest_edge" else {"height": edge, "width": edge},
        crop_size=size,
        resample=3 if interpolation == "bicubic" else 2,
        image_mean=spec.mean,
        image_std=spec.std,
    )
    assert apart(ImagePreprocessor(spec)(noise(width, height, seed=seed)), expected) < TOLERANCE


MEMORY = """
import resource, sys
import numpy as np
from PIL import Image
from edgekit.runtimes.vision import ImagePreprocessor
prepare = ImagePreprocessor()
pixels = np.load(sys.argv[1])
prepare(pixels[:, :50])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
np.save(sys.argv[2], prepare([pixels, pixels.transpose(1, 0, 2)]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_very_long_picture_is_right_and_costs_little(tmp_path: Path) -> None:
    pixels = noise(20_000, 10)
    np.save(tmp_path / "in.npy", pixels)
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100, "MB; resized in one piece it would be 400"
    wide, high = np.load(tmp_path / "out.npy")
    middle = pixels[:, 9_900:10_100]  # wide enough for the filter to see the same
    assert apart(wide[None], reference(Image.fromarray(middle))) < TOLERANCE
    assert apart(high[None], reference(Image.fromarray(middle.transpose(1, 0, 2).copy()))) < TOLERANCE


def test_a_picture_too_narrow_to_be_one_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (5000, 1)).save(tmp_path / "line.png")
    with pytest.raises(InputError, match=r"line\.png; found 5000 x 1 pixels; expected sides of 1 to 4681 at most"):
        ImagePreprocessor()(tmp_path / "line.png")
    assert ImagePreprocessor(ImageSpec(resize="squash"))(tmp_path / "line.png").shape == (1, 3, 224, 224)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_modes(mode: str) -> None:
    image = Image.fromarray(noise(90, 60, 4)).convert("RGB" if mode in ("P", "HSV", "YCbCr") else "RGBA").convert(mode)
    assert apart(ImagePreprocessor()(image), reference(image)) < TOLERANCE


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 2}),
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("PNG", "1", {}),
        ("GIF", "P", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("BMP", "RGB", {}),
        ("TIFF", "CMYK", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("PPM", "RGB", {}),
    ],
)
@pytest.mark.parametrize("as_path", [False, True], ids=["bytes", "path"])
def test_formats(kind: str, mode: str, options: dict, as_path: bool, tmp_path: Path) -> None:
    image = Image.fromarray(noise(90, 60, 4)).convert("RGB" if mode in "CMYK P" else "RGBA").convert(mode)
    data = encoded(image, kind, **options)
    (tmp_path / "picture").write_bytes(data)
    found = ImagePreprocessor()(tmp_path / "picture" if as_path else data)
    assert apart(found, reference(Image.open(io.BytesIO(data)))) < TOLERANCE


@pytest.mark.filterwarnings("error")  # Pillow warns of a palette's transparency
def test_a_palette_with_transparency_shows_its_colours() -> None:
    image = Image.fromarray(noise(50, 50)).quantize(32)
    data = encoded(image, "PNG", transparency=bytes(range(0, 256, 8)))
    assert Image.open(io.BytesIO(data)).info["transparency"]
    assert apart(ImagePreprocessor()(data), reference(image.convert("RGB"))) < TOLERANCE


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_the_upper_eight(kind: str) -> None:
    upper = noise(60, 40, 1)[:, :, 0]
    deep = upper.astype(np.uint16) * 256 + np.random.default_rng(1).integers(0, 256, upper.shape).astype(np.uint16)
    data = encoded(Image.fromarray(deep), kind)
    assert Image.open(io.BytesIO(data)).mode == "I;16"
    assert apart(ImagePreprocessor()(data), ImagePreprocessor()(upper)) == 0
    assert apart(ImagePreprocessor()(Image.fromarray(deep)), ImagePreprocessor()(upper)) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_is_obeyed(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(noise(90, 61)), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert apart(ImagePreprocessor()(data), reference(upright)) < TOLERANCE
    assert ImagePreprocessor().decode(data).size == ((90, 61) if orientation < 5 else (61, 90))
    assert apart(ImagePreprocessor()(upright), ImagePreprocessor()(data)) == 0  # not turned a second time


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_is_damaged_turns_nothing() -> None:
    pixels = Image.fromarray(noise(40, 30))
    data = encoded(pixels, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff")
    assert ImagePreprocessor().decode(data).size == (40, 30)
    exif = Image.Exif()
    exif[0x0112] = 77
    assert ImagePreprocessor().decode(encoded(pixels, "JPEG", exif=exif)).size == (40, 30)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "blue", "green")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert ImagePreprocessor().decode(data).getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays(channels: int) -> None:
    prepare, pixels = ImagePreprocessor(), noise(70, 50, channels)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    expected = reference(Image.fromarray(pixels.squeeze(), mode).convert("RGB"))
    assert apart(prepare(pixels), expected) < TOLERANCE
    assert apart(prepare(np.asfortranarray(pixels)), expected) < TOLERANCE
    assert apart(prepare(np.repeat(pixels, 2, axis=1)[:, ::2]), expected) < TOLERANCE
    turned = pixels if channels == 1 else pixels[:, :, [2, 1, 0, 3][:channels]]
    assert apart(prepare(turned, bgr=True), expected) < TOLERANCE
    if channels == 1:
        assert apart(prepare(pixels[:, :, 0]), expected) < TOLERANCE
    else:
        assert apart(prepare(turned), expected) > 0.1


def test_a_batch_is_its_pictures(tmp_path: Path) -> None:
    pixels = noise(70, 50)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    prepare = ImagePreprocessor()
    alone = prepare(pixels)
    given = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
        Image.fromarray(pixels),
        pixels,
    ]
    for images in (given, tuple(given), iter(given), np.stack([pixels] * 5)):
        found = prepare(images)
        assert found.shape == (5, 3, 224, 224)
        assert (found == alone).all()
    assert prepare([]).shape == (0, 3, 224, 224)
    frames = np.stack([pixels[:, :, ::-1], pixels[:, :, ::-1]])
    assert (prepare(frames, bgr=True) == alone).all()
    assert (prepare([pixels[:, :, ::-1], tmp_path / "a.png"], bgr=True) == alone).all()  # a file's order is its own


def test_the_parts_are_the_whole_and_the_caller_keeps_what_is_his() -> None:
    image = Image.fromarray(noise(50, 40, 4), "RGBA")
    before = image.tobytes()
    prepare = ImagePreprocessor(ImageSpec(size=32))
    out = np.full((3, 32, 32), np.nan, np.float32)
    assert (prepare.transform(prepare.decode(image), out) == prepare(image)).all()
    assert (out == prepare(image)[0]).all()
    assert (image.mode, image.tobytes()) == ("RGBA", before)


def bomb() -> bytes:
    """A PNG of a few bytes that states 60,000 x 60,000 pixels."""
    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    body = b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


def test_decompression_bombs(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb())
    with pytest.raises(InputError, match=r"bomb\.png; found .*pixels"):
        ImagePreprocessor()(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="found 40 x 30 pixels; expected at most 1199 in all"):
        ImagePreprocessor(max_pixels=1199)(encoded(Image.new("RGB", (40, 30)), "PNG"))
    assert ImagePreprocessor(max_pixels=1200)(encoded(Image.new("RGB", (40, 30)), "PNG")).shape == (1, 3, 224, 224)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_what_is_cut_short_is_told(kind: str, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(noise(90, 60)), kind)
    for share in (0.02, 0.3, 0.6, 0.9):
        (tmp_path / "cut.img").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match=r"cut\.img; found \S"):
            ImagePreprocessor()(tmp_path / "cut.img")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of what it skips in a TIFF
@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"]),
    places=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12),
)
def test_a_damaged_file_is_a_picture_or_a_typed_error(kind: str, places: list[tuple[float, int]]) -> None:
    data = bytearray(encoded(Image.fromarray(noise(24, 16)), kind))
    for place, value in places:
        data[int(place * len(data))] = value
    try:
        found = ImagePreprocessor(ImageSpec(size=16), max_pixels=1 << 20)(bytes(data))
    except InputError:
        return
    assert found.shape == (1, 3, 16, 16) and np.isfinite(found).all()


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200))
def test_what_is_no_picture_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(InputError, match=f"picture of {len(data)} bytes"):
        ImagePreprocessor()(b"not " + data if data[:2] in (b"BM", b"P6") else data)


WRONG = {
    "float": (np.zeros((5, 5, 3)), r"array float64 \(5, 5, 3\); expected uint8"),
    "uint16": (np.zeros((5, 5, 3), np.uint16), "uint16"),
    "channels first": (np.zeros((3, 50, 50), np.uint8), "Move the channels last"),
    "two channels": (np.zeros((5, 5, 2), np.uint8), r"\(5, 5, 2\)"),
    "one axis": (np.zeros(5, np.uint8), r"\(5,\)"),
    "empty array": (np.zeros((0, 5, 3), np.uint8), "at least one pixel"),
    "empty picture": (Image.new("RGB", (0, 3)), "0 x 3 pixels"),
    "float picture": (Image.new("F", (3, 3)), "mode F"),
    "whole numbers": (Image.new("I", (3, 3)), "mode I"),
    "empty bytes": (b"", "picture of 0 bytes; found no picture"),
    "no file": ("/no/such/cat.jpg", r"/no/such/cat\.jpg; found no such file"),
    "a folder": (Path("/tmp"), "/tmp; found no such file"),
    "a device": ("/dev/zero", "/dev/zero; found no such file"),
    "a zero in the path": ("a\0b", "no such file"),
    "a number": (7, "int 7; expected a picture"),
    "none": (None, "NoneType"),
    "a dict": ({"a": 1}, "dict"),
    "a number in a list": ([7], "picture number 0; found int 7"),
    "a list in a list": ([[np.zeros((5, 5), np.uint8)]], "picture number 0; found list"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_used_is_told(wrong: str) -> None:
    value, message = WRONG[wrong]
    with pytest.raises(InputError, match=message):
        ImagePreprocessor()(value)


def test_errors_name_the_place_and_the_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(InputError, match=r"picture number 1 \(.*notes\.txt\); found no picture; expected JPEG"):
        ImagePreprocessor()([noise(5, 5), tmp_path / "notes.txt"])
    with pytest.raises(InputError, match="bgr with arrays only"):
        ImagePreprocessor().decode(tmp_path / "notes.txt", bgr=True)


def test_postscript_never_reaches_an_interpreter(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(Image.new("RGB", (5, 5)), "EPS"))
    with pytest.raises(InputError, match="found no picture"):
        ImagePreprocessor()(tmp_path / "a.jpg")


def test_without_pillow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match="pip install Pillow"):
        ImagePreprocessor()


def test_the_spec_survives_json_and_refuses_nonsense() -> None:
    spec = ImageSpec(256, "squash", 0, "bilinear", [0.5] * 3, [0.5] * 3)
    assert ImageSpec.from_dict(spec.to_dict()) == spec
    for field, value in {
        "size": 0, "resize": "stretch", "edge": 100, "interpolation": "nearest", "mean": [0.5], "std": [1.0, 0.0, 1.0],
    }.items():  # fmt: skip
        with pytest.raises(BundleError, match=field):
            ImageSpec.from_dict({**spec.to_dict(), field: value})


def test_a_pipeline_works_in_small_batches() -> None:
    seen: list[int] = []

    def forward(values: np.ndarray) -> np.ndarray:
        seen.append(len(values))
        return values.mean((2, 3))

    prepare = ImagePreprocessor(ImageSpec(size=8))
    pictures = [noise(20, 20, seed=seed) for seed in range(19)]
    together = ImagePipeline(prepare, forward).outputs(iter(pictures))
    assert seen == [8, 8, 3]
    np.testing.assert_array_equal(together, forward(prepare(pictures)))
    seen.clear()
    alone = ImagePipeline(prepare, forward, batching=False).outputs(pictures)
    assert seen == [1] * 19
    np.testing.assert_allclose(alone, together, atol=1e-6)
    assert ImagePipeline(prepare, forward).outputs([]).shape == (0, 3)
