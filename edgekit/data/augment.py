"""Random crops, colours and small turns of a picture that follow from a seed alone.

The form of Vasu et al. 2024, "MobileCLIP", section 4: a random resized crop (scale 0.08 to 1, ratio 3/4 to 4/3,
bicubic), then operations drawn as RandAugment does (Cubuk et al. 2020), here light ones only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

from edgekit.data.draws import Draws
from edgekit.errors import DataError

VERSION = 1  # raise it when the same seed gives other pixels


@dataclass(frozen=True)
class AugmentSettings:
    """Shares of the area (``scale``) and aspect (``ratio``) of the crop; ``operations`` drawn for each picture.

    ``magnitude`` in 0..1: how far an operation may go. ``flip``: chance of a mirror image, 0 because captions say left
    and right.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    operations: int = 2
    magnitude: float = 0.5
    flip: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high), least, most in (
            ("scale", self.scale, 1e-3, 1.0),
            ("ratio", self.ratio, 0.1, 10.0),
            ("magnitude", (self.magnitude, self.magnitude), 0.0, 1.0),
            ("flip", (self.flip, self.flip), 0.0, 1.0),
        ):
            if not least <= low <= high <= most:
                found = low if low == high else (low, high)
                raise DataError(f"augmentation: {name}", found=found, expected=f"from {least:g} to {most:g}, in order")
        if not 0 <= self.operations <= 16:
            raise DataError("augmentation: operations", found=self.operations, expected="0 to 16")


DEFAULT = AugmentSettings()


def augment(
    picture: Image.Image | npt.NDArray[np.uint8], seed: int, size: int, settings: AugmentSettings = DEFAULT
) -> npt.NDArray[np.uint8]:
    """One augmentation of ``picture`` (PIL, or uint8 (H, W, 3) RGB): uint8 (size, size, 3).

    The same seed, settings and picture give the same bytes with one version of Pillow, on any machine.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    draws = Draws("augment", VERSION, seed)
    box = _crop(image.width, image.height, draws, settings)
    image = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=box)
    if draws.share() < settings.flip:
        image = ImageOps.mirror(image)
    for _ in range(settings.operations):
        operation = draws.choice(_OPERATIONS)
        image = operation(image, settings.magnitude * draws.share() * draws.sign())
    return np.asarray(image)


def _crop(width: int, height: int, draws: Draws, settings: AugmentSettings) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a crop; the largest one in the middle where ten draws do not fit."""
    low, high = (math.log(end) for end in settings.ratio)
    for _ in range(10):
        area = width * height * draws.uniform(*settings.scale)
        ratio = math.exp(draws.uniform(low, high))
        wide, tall = max(1, round(math.sqrt(area * ratio))), max(1, round(math.sqrt(area / ratio)))
        if wide <= width and tall <= height:
            left, top = draws.below(width - wide + 1), draws.below(height - tall + 1)
            return left, top, left + wide, top + tall
    ratio = min(max(width / height, settings.ratio[0]), settings.ratio[1])
    across, down = min(width, height * ratio), min(height, width / ratio)
    left_edge, top_edge = (width - across) / 2, (height - down) / 2
    return left_edge, top_edge, left_edge + across, top_edge + down


# --- operations: an image and a strength in -1..1


def _brightness(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + 0.8 * strength)


def _contrast(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + 0.8 * strength)


def _saturation(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + 0.8 * strength)


def _sharpness(image: Image.Image, strength: float) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1 + 0.8 * strength)


def _autocontrast(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.autocontrast(image)


def _posterize(image: Image.Image, strength: float) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * abs(strength)))


def _rotate(image: Image.Image, strength: float) -> Image.Image:
    return image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=_middle(image))


def _shear(image: Image.Image, strength: float) -> Image.Image:
    slope = 0.3 * strength
    matrix = (1.0, slope, -slope * image.height / 2, 0.0, 1.0, 0.0)
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_middle(image)
    )


def _same(image: Image.Image, strength: float) -> Image.Image:
    return image


def _middle(image: Image.Image) -> tuple[int, ...]:
    """The mean colour, to fill corners with."""
    return tuple(int(value) for value in np.asarray(image).reshape(-1, 3).mean(axis=0, dtype=np.float64))


_OPERATIONS: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    _same, _brightness, _contrast, _saturation, _sharpness, _autocontrast, _posterize, _rotate, _shear,
)  # fmt: skip
