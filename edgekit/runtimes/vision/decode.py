"""Whatever a picture may come as, to an upright RGB picture of Pillow's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.errors import EdgekitError, InputError, MissingDependencyError

if TYPE_CHECKING:
    from PIL.Image import Image

# Only formats that a camera or a browser writes: Pillow would also hand PostScript to an interpreter.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# Above this, a file is refused before its pixels are decoded (3 to 4 bytes each): a few kB can claim gigapixels.
MAX_PIXELS = 89_478_485  # where Pillow itself begins to warn: 256 MiB of RGB
_ORIENTATION = 0x0112  # the EXIF tag
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def import_pillow() -> Any:
    """``PIL.Image``, with the readers of :data:`FORMATS`. Raises ``MissingDependencyError``."""
    try:
        from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401  # the last two register themselves
    except ImportError as error:
        raise MissingDependencyError("pictures need Pillow", found=str(error), fix="pip install Pillow") from None
    return Image


def decode(image: object, bgr: bool = False, name: str = "", max_pixels: int = MAX_PIXELS) -> Image:
    """``image`` as an upright RGB picture. ``name``: what errors call it, else its file's name or its kind.

    ``image``: a path (str or Path) or the bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM; a Pillow image; or an
    array uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), whose channels are RGB or, with ``bgr``, BGR (arrays only:
    cameras give it). Files are turned as their EXIF says; of an animation the first frame is taken; transparency is
    dropped and the colours below it show, as CLIP's own preprocessing has it; 16-bit grey keeps its upper eight bits.

    Raises ``InputError`` for anything that is no picture, is cut short, has no pixels or, in a file, more than
    ``max_pixels``.
    """
    module, name = import_pillow(), name_of(image, name)
    if isinstance(image, np.ndarray):
        return _from_array(module, image, bgr, name)
    if bgr:
        raise InputError(name, found=f"bgr with {type(image).__name__}", expected="bgr with arrays only")
    if isinstance(image, module.Image):
        return _to_rgb(image, name)
    if isinstance(image, bytes | bytearray | memoryview):
        return _from_file(module, bytes(image), name, max_pixels)
    if isinstance(image, str | Path):
        return _from_file(module, image, name, max_pixels)
    raise InputError(
        name,
        found=f"{type(image).__name__} {image!r:.40}",
        expected="a path, bytes, a Pillow image or an array uint8 (H, W, 3)",
    )


def name_of(image: object, name: str = "") -> str:
    """What errors call ``image``: ``name`` if there is one, a path, or its kind."""
    if name or not isinstance(image, str | Path | bytes | bytearray | memoryview):
        return name or "picture"
    return str(image) if isinstance(image, str | Path) else f"picture of {len(image)} bytes"


def _from_file(module: Any, source: str | Path | bytes, name: str, max_pixels: int) -> Image:
    from io import BytesIO

    if not isinstance(source, bytes):
        try:
            found = Path(source).is_file()  # a pipe or a device would be waited for
        except (OSError, ValueError):
            found = False
        if not found:
            raise InputError(name, found="no such file", expected="a picture")
    try:
        with module.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise InputError(name, found=f"{width} x {height} pixels", expected=f"at most {max_pixels} in all")
            return _to_rgb(opened, name)
    except EdgekitError:
        raise
    except module.UnidentifiedImageError:
        raise InputError(name, found="no picture", expected=", ".join(FORMATS)) from None
    except (module.DecompressionBombError, module.DecompressionBombWarning) as error:
        raise InputError(name, found=_short(error), expected=f"at most {max_pixels} pixels") from None
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them into
        raise InputError(name, found=_short(error), expected="a whole picture") from None


def _to_rgb(picture: Image, name: str) -> Image:
    if not picture.width or not picture.height:
        raise InputError(name, found=f"{picture.width} x {picture.height} pixels", expected="at least one")
    turn = _TURNS.get(_orientation(picture))
    try:
        picture.load()
        if picture.mode in _SIXTEEN_BITS:
            upper = (np.asarray(picture) >> 8).astype(np.uint8)  # Pillow's own conversion would clip at 255
            picture = _from_array(import_pillow(), upper, False, name)
        elif picture.mode in ("I", "F"):
            raise InputError(
                name, found=f"pixels of mode {picture.mode}, whose range nothing states", expected="8 or 16 bits"
            )
        elif picture.mode == "P" and "transparency" in picture.info:
            picture = picture.convert("RGBA").convert("RGB")  # straight to RGB is the same, with a warning
        elif picture.mode != "RGB":
            picture = picture.convert("RGB")
    except EdgekitError:
        raise
    except Exception as error:
        raise InputError(name, found=_short(error), expected="a whole picture") from None
    return picture if turn is None else picture.transpose(import_pillow().Transpose[turn])


# EXIF orientation (JEITA CP-3451, 4.6.4) to what brings the picture upright, in Pillow's words.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def _orientation(picture: Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF beside a picture that may be whole: shown as it lies, as viewers do
        return 1
    return value if isinstance(value, int) else 1


def _from_array(module: Any, array: np.ndarray, bgr: bool, name: str) -> Image:
    shape = array.shape
    channels = shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        hint = "Move the channels last." if array.ndim == 3 and shape[0] in (1, 3, 4) else None
        raise InputError(
            name,
            found=f"array {array.dtype} {shape}",
            expected="uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
            fix=hint,
        )
    height, width = shape[:2]
    if not height or not width:
        raise InputError(name, found=f"array {shape}", expected="at least one pixel")
    stored, raw = {1: ("L", "L"), 3: ("RGB", "BGR" if bgr else "RGB"), 4: ("RGB", "BGRX" if bgr else "RGBX")}[channels]
    picture: Image = module.frombytes(stored, (width, height), np.ascontiguousarray(array), "raw", raw)
    return picture.convert("RGB") if channels == 1 else picture


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
