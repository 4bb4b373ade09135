"""Pictures to ``pixel_values``: resize, cut, normalise. Decoding is a part of its own, so that it can be timed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import InputError
from edgekit.runtimes.vision.decode import MAX_PIXELS, decode, import_pillow, name_of
from edgekit.runtimes.vision.spec import ImageSpec

if TYPE_CHECKING:
    from PIL.Image import Image

LONGEST = 1 << 20  # pixels of a resized side, before the cut
# Up to so many pixels a picture is resized in one piece. One of 20,000 x 10 would become 448,000 x 224, 400 MB: such
# are resized in strips, the rows first.
_WHOLE = 1 << 24
_STRIP = 1 << 22

Floats = npt.NDArray[np.float32]


class ImagePreprocessor:
    """What ``spec`` states, for one picture or many. Keeps no state between calls; safe in several threads.

    The values are those of transformers' ``CLIPImageProcessor``: resized, rounded to 8 bits, cut, normalised. JPEG's
    reduced decoding (Pillow's draft mode) is not used: it took 15 ms instead of 70 for 12 megapixels, but moved
    normalised values by up to 0.04 on smooth pictures, where one step of 8 bits is 0.015.
    """

    def __init__(self, spec: ImageSpec | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self.spec = spec or ImageSpec()
        self.max_pixels = max_pixels
        self._filter = import_pillow().Resampling[self.spec.interpolation.upper()]
        # One row a channel: what each of the 256 values becomes. In float64, as it is done once.
        steps = np.arange(256) / 255
        self._tables = np.stack([(steps - m) / s for m, s in zip(self.spec.mean, self.spec.std, strict=True)])
        self._tables = self._tables.astype(np.float32)

    def decode(self, image: object, bgr: bool = False, name: str = "") -> Image:
        """First part: :func:`edgekit.runtimes.vision.decode.decode`.

        Raises ``InputError``, also for a picture so narrow that its long side would exceed :data:`LONGEST`.
        """
        picture = decode(image, bgr, name, self.max_pixels)
        if max(self._resized(picture)) > LONGEST:
            raise InputError(
                name_of(image, name),
                found=f"{picture.width} x {picture.height} pixels",
                expected=f"sides of 1 to {LONGEST // self.spec.resized_edge} at most",
            )
        return picture

    def transform(self, picture: Image, out: Floats | None = None) -> Floats:
        """Second part: an RGB picture to float32 (1, 3, S, S); written into ``out``, (3, S, S), where that is given."""
        size = self.spec.size
        values = np.empty((3, size, size), np.float32) if out is None else out
        pixels = np.asarray(self.resize(picture))
        for channel, table in enumerate(self._tables):
            np.take(table, pixels[:, :, channel], out=values[channel], mode="clip")  # unlike "raise", without a copy
        return values[None]

    def resize(self, picture: Image) -> Image:
        """``picture`` resized and cut to ``size`` x ``size``, still 8 bits a channel."""
        size, (wide, high) = self.spec.size, self._resized(picture)
        left, top = (wide - size) // 2, (high - size) // 2
        if wide * high <= _WHOLE:
            # Pillow's `box` would compute only what is kept. But it counts in float32, so that some values round to
            # the next step; and which side is resized first, which clips otherwise, depends on Pillow's version.
            return picture.resize((wide, high), self._filter).crop((left, top, left + size, top + size))
        return self._columns(self._rows(picture, wide, left), high, top)

    def _resized(self, picture: Image) -> tuple[int, int]:
        """Width and height before the cut."""
        edge, (width, height) = self.spec.resized_edge, picture.size
        if self.spec.resize == "squash":
            return edge, edge
        if width <= height:
            return edge, int(edge * height / width)
        return int(edge * width / height), edge

    def _rows(self, picture: Image, wide: int, left: int) -> Image:
        """``picture`` with each row resized to ``wide`` pixels, of which ``size`` from ``left`` on are kept."""
        size, (width, height) = self.spec.size, picture.size
        step = max(1, _STRIP // wide)
        kept = import_pillow().new("RGB", (size, height))
        for top in range(0, height, step):
            part = picture.crop((0, top, width, min(top + step, height)))
            kept.paste(
                part.resize((wide, part.height), self._filter).crop((left, 0, left + size, part.height)), (0, top)
            )
        return kept

    def _columns(self, picture: Image, high: int, top: int) -> Image:
        """The same of each column, top to bottom."""
        size, (width, height) = self.spec.size, picture.size
        step = max(1, _STRIP // high)
        kept = import_pillow().new("RGB", (width, size))
        for left in range(0, width, step):
            part = picture.crop((left, 0, min(left + step, width), height))
            kept.paste(part.resize((part.width, high), self._filter).crop((0, top, part.width, top + size)), (left, 0))
        return kept

    def __call__(self, images: object, bgr: bool = False) -> Floats:
        """One picture or several, in any form that :meth:`decode` takes, to float32 (B, 3, S, S).

        ``bgr``: arrays are BGR. Raises ``InputError`` naming the file, or the place in the list.
        """
        pictures = list(as_images(images))
        values = np.empty((len(pictures), 3, self.spec.size, self.spec.size), np.float32)
        for (name, image), row in zip(pictures, values, strict=True):
            self.transform(self.decode(image, bgr and isinstance(image, np.ndarray), name), row)
        return values


def as_images(images: object) -> Iterator[tuple[str, object]]:
    """(name for errors, picture) of each in ``images``: one picture, an array (B, H, W, C), or an iterable of pictures.

    Raises ``InputError`` for what cannot hold pictures.
    """
    if is_image(images):
        yield "", images
        return
    if isinstance(images, dict) or not isinstance(images, Iterable):
        raise InputError(
            "pictures", found=f"{type(images).__name__} {images!r:.40}", expected="a picture or a list of pictures"
        )
    for number, image in enumerate(images):
        shown = f" ({image})" if isinstance(image, str | Path) else ""
        yield f"picture number {number}{shown}", image


def is_image(value: Any) -> bool:
    """Whether ``value`` stands for one picture: path, bytes, Pillow image, array of fewer than four axes."""
    if isinstance(value, np.ndarray):
        return value.ndim < 4
    return isinstance(value, str | Path | bytes | bytearray | memoryview | import_pillow().Image)
