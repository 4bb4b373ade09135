"""Pictures that are opened when asked for, and the two kinds of set made of them: with captions, and with classes."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from edgekit.errors import DataError

Rows = Sequence[int] | npt.NDArray[np.int64]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff")


class Pictures(Protocol):
    """A row of pictures. ``names`` tells them apart; ``digests`` (hex) are equal for equal content alone."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def digests(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def open(self, row: int) -> npt.NDArray[np.uint8]:
        """Picture ``row``: uint8 (H, W, 3), RGB, turned upright."""

    def take(self, rows: Rows) -> Pictures:
        """The pictures at ``rows``, in that order."""


@dataclass(frozen=True)
class EncodedPictures:
    """Pictures in files, or in memory as the bytes of a file."""

    names: Sequence[str]
    items: Sequence[Path | bytes]
    digests: Sequence[str]  # sha256 of each file's bytes

    def __len__(self) -> int:
        return len(self.items)

    def open(self, row: int) -> npt.NDArray[np.uint8]:
        """Picture ``row``: uint8 (H, W, 3), RGB, turned as its EXIF says. DataError where it cannot be decoded."""
        return decode(self.items[row], self.names[row])

    def take(self, rows: Rows) -> EncodedPictures:
        """The pictures at ``rows``, in that order."""
        at = [int(row) for row in rows]
        return EncodedPictures(
            [self.names[row] for row in at], [self.items[row] for row in at], [self.digests[row] for row in at]
        )


@dataclass(frozen=True)
class ArrayPictures:
    """Pictures in memory, each uint8 (H, W, 3) RGB; the sizes may differ."""

    names: Sequence[str]
    arrays: Sequence[npt.NDArray[np.uint8]]
    digests: Sequence[str]

    @classmethod
    def of(cls, arrays: Iterable[npt.NDArray[np.uint8]], names: Sequence[str] | None = None) -> ArrayPictures:
        """Pictures of ``arrays``, called 0, 1, ... without ``names``. DataError for another shape or dtype."""
        listed = list(arrays)
        for row, array in enumerate(listed):
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
                raise DataError(f"picture {row}", found=f"{array.dtype} {array.shape}", expected="uint8 (H, W, 3)")
        called = [str(row) for row in range(len(listed))] if names is None else list(names)
        if len(called) != len(listed):
            raise DataError("names of pictures", found=str(len(called)), expected=f"{len(listed)}, one a picture")
        digests = [hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest() for array in listed]
        return cls(called, listed, digests)

    def __len__(self) -> int:
        return len(self.arrays)

    def open(self, row: int) -> npt.NDArray[np.uint8]:
        """Picture ``row``: uint8 (H, W, 3), RGB."""
        return self.arrays[row]

    def take(self, rows: Rows) -> ArrayPictures:
        """The pictures at ``rows``, in that order."""
        at = [int(row) for row in rows]
        return ArrayPictures(
            [self.names[row] for row in at], [self.arrays[row] for row in at], [self.digests[row] for row in at]
        )


def decode(item: Path | bytes, name: str) -> npt.NDArray[np.uint8]:
    """A picture file as uint8 (H, W, 3), RGB, upright; DataError names it where Pillow cannot read all of it.

    Pictures past Pillow's bound on pixels (``Image.MAX_IMAGE_PIXELS``, against decompression bombs) are refused.
    """
    try:
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as image:
            check_size(image)
            return np.asarray(_rgb(ImageOps.exif_transpose(image)))
    except UNREADABLE as error:
        raise DataError(
            f"picture {name}", found=str(error) or type(error).__name__, expected="a picture that Pillow can read"
        ) from error


UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for a picture that it cannot read."""


def check_size(image: Image.Image) -> None:
    """DecompressionBombError for a picture past Pillow's bound, where Pillow itself only warns."""
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels, more than {most}")


def _rgb(image: Image.Image) -> Image.Image:
    """RGB, over white where there is transparency; 16-bit grey is scaled, not cut off."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        flat = Image.new("RGB", layer.size, (255, 255, 255))
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    return image.convert("RGB")


@dataclass(frozen=True)
class PictureTextSet:
    """Pictures with captions. ``len`` is the number of pictures; a picture has one caption or several."""

    pictures: Pictures
    captions: list[str]
    picture_of: npt.NDArray[np.int64]  # (captions,): the row of the picture that each belongs to, ascending
    rules: list[str] = field(default_factory=list)  # what was decided while reading
    targets: npt.NDArray[np.float32] | None = None  # (pictures, D) of a cached teacher, unit length

    def __post_init__(self) -> None:
        of = self.picture_of
        if len(of) != len(self.captions):
            raise DataError("captions", found=f"{len(of)} picture numbers", expected=f"{len(self.captions)}")
        if not np.array_equal(np.unique(of), np.arange(len(self.pictures))) or (np.diff(of) < 0).any():
            raise DataError(
                "captions", found="other picture numbers", expected="each picture's, ascending, none without a caption"
            )
        if self.targets is not None and (self.targets.ndim != 2 or len(self.targets) != len(self.pictures)):
            raise DataError("targets", found=f"shape {self.targets.shape}", expected=f"({len(self.pictures)}, D)")

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: Rows) -> PictureTextSet:
        """The pictures at ``rows``, in that order, each with its captions."""
        starts = np.searchsorted(self.picture_of, np.arange(len(self) + 1))
        captions: list[str] = []
        counts: list[int] = []
        for row in rows:
            own = self.captions[starts[row] : starts[row + 1]]
            captions += own
            counts.append(len(own))
        return PictureTextSet(
            self.pictures.take(rows),
            captions,
            np.repeat(np.arange(len(counts), dtype=np.int64), counts),
            targets=None if self.targets is None else self.targets[np.asarray(rows, np.int64)],
        )

    def sample(self, count: int, seed: int) -> list[Any]:
        """``count`` of the pictures, or all, drawn by ``seed``: uint8 (H, W, 3), each with its first caption."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return [(self.pictures.open(row), self.captions_of(row)[0]) for row in rows.tolist()]

    def spread(self, count: int) -> list[Any]:
        """At most ``count`` of the pictures, uint8 (H, W, 3), spread evenly, each with its first caption."""
        picks = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int).tolist()
        return [(self.pictures.open(row), self.captions_of(row)[0]) for row in picks]

    def captions_of(self, row: int) -> list[str]:
        """The captions of picture ``row``."""
        first, last = np.searchsorted(self.picture_of, [row, row + 1])
        return self.captions[first:last]

    def parts(self) -> Iterable[bytes]:
        """What the fingerprint covers."""
        yield from (name.encode() for name in self.pictures.names)
        yield from (digest.encode() for digest in self.pictures.digests)
        yield from (caption.encode() for caption in self.captions)
        yield self.picture_of.astype("<i8").tobytes()
        if self.targets is not None:
            yield self.targets.astype("<f4").tobytes()


@dataclass(frozen=True)
class PictureSet:
    """Pictures with a class each: ``labels`` (n,) int64 are rows of ``names``."""

    pictures: Pictures
    labels: npt.NDArray[np.int64]
    names: list[str]
    rules: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.pictures),):
            raise DataError("labels", found=f"shape {self.labels.shape}", expected=f"({len(self.pictures)},)")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.names):
            raise DataError("labels", found=f"up to {self.labels.max()}", expected=f"0 to {len(self.names) - 1}")

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: Rows) -> PictureSet:
        """The pictures at ``rows``, in that order; the classes stay as they are."""
        at = np.asarray(rows, np.int64)
        return PictureSet(self.pictures.take(at), self.labels[at], self.names)

    def parts(self) -> Iterable[bytes]:
        """What the fingerprint covers."""
        yield from (name.encode() for name in self.names)
        yield from (name.encode() for name in self.pictures.names)
        yield from (digest.encode() for digest in self.pictures.digests)
        yield self.labels.astype("<i8").tobytes()


SetT = TypeVar("SetT", PictureTextSet, PictureSet)


@dataclass(frozen=True)
class PictureSplits(Generic[SetT]):
    """A picture set ready for use. ``rules`` states, one a line, everything that was decided on the way."""

    train: SetT
    validation: SetT
    test: SetT
    rules: list[str]
    fingerprint: str  # sha256 over the content of all parts
    zero_shot: PictureSet | None = None  # classes that no caption of train names
    licences: list[dict[str, str]] = field(default_factory=list)
    name: str = ""

    @property
    def names(self) -> list[str]:
        """Names of labels: pictures with captions have none."""
        return self.train.names if isinstance(self.train, PictureSet) else []


def fingerprint(*sets: PictureTextSet | PictureSet) -> str:
    """sha256 over everything in ``sets`` that training or evaluation can see: pictures, names, captions, labels."""
    digest = hashlib.sha256()
    for one in sets:
        digest.update(type(one).__name__.encode() + len(one).to_bytes(8, "little"))
        for part in one.parts():
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    return digest.hexdigest()
