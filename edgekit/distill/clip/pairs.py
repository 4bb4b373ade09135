"""Training pairs: pictures in memory at the model's size, one caption a picture drawn anew each epoch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from edgekit.data import PictureTextSet
from edgekit.data.pictures import Pictures
from edgekit.distill.clip.config import DualConfig
from edgekit.progress import Progress, Silent, track
from edgekit.recipe.training import Augment
from edgekit.runtimes.context import ClipTokenizer
from edgekit.runtimes.vision import ImagePreprocessor, ImageSpec

_RATIO = float(np.log(4 / 3))  # of a crop's sides, as its logarithm; Szegedy et al. 2015, section 6


class PairBatch(NamedTuple):
    """``pictures``, ``captions`` (B,): rows of the set; ``pixels`` float32 (B, 3, S, S); ids and mask int64 (B, T).

    ``augmentations`` (B,): which of a reinforced store's each picture is; None where they are as they came.
    """

    pictures: NDArray[np.int64]
    captions: NDArray[np.int64]
    pixels: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    augmentations: NDArray[np.int64] | None = None

    def to(self, device: torch.device) -> PairBatch:
        """The same batch on ``device``."""
        return self._replace(
            pixels=self.pixels.to(device),
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
        )


@dataclass(frozen=True)
class Pairs:
    """A set as a dual encoder reads it: ``pixels`` uint8 (P, S, S, 3), ``ids`` and ``mask`` int64 (C, T).

    ``mean`` and ``std`` of RGB in 0 to 1. Example numbers are those of captions: a picture comes with one of its own.
    """

    pixels: NDArray[np.uint8]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    picture_of: NDArray[np.int64]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: Augment | None = None  # how batches vary their pictures

    def __len__(self) -> int:
        """Pictures: what an epoch passes over."""
        return len(self.pixels)

    def epoch(self, size: int, seed: int, number: int, rank: int = 0, ranks: int = 1) -> list[NDArray[np.int64]]:
        """Captions of every batch's part of one epoch: all pictures once, in an order of their own, a caption each."""
        random = np.random.default_rng([seed, number])
        starts = np.searchsorted(self.picture_of, np.arange(len(self) + 1))
        chosen = starts[:-1] + (random.random(len(self)) * np.diff(starts)).astype(np.int64)
        order = chosen[random.permutation(len(self))]
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        even = [batch[: len(batch) - len(batch) % ranks] for batch in batches]
        return [batch[rank::ranks] for batch in even if len(batch)]

    def collate(self, index: NDArray[np.int64]) -> PairBatch:
        """The captions at ``index`` and their pictures."""
        rows = self.picture_of[index]
        longest = int(self.mask[index].sum(1).max())
        ids, mask = (torch.from_numpy(array[index, :longest]) for array in (self.ids, self.mask))
        pixels = self.images(rows)
        if self.augment is not None:
            random = np.random.default_rng(index)  # another order, another draw; the same after a restart
            pixels = self.scaled(varied(self.pixels[rows], self.augment, random))
        return PairBatch(rows, index, pixels, ids, mask)

    def images(self, rows: NDArray[np.int64] | slice) -> Tensor:
        """Pictures at ``rows`` as the tower takes them, float32 (B, 3, S, S)."""
        return self.scaled(self.pixels[rows])

    def scaled(self, pixels: NDArray[np.uint8]) -> Tensor:
        """uint8 (B, S, S, 3) as the tower takes them, float32 (B, 3, S, S)."""
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        mean, std = self._scaling
        return (values / 255 - mean) / std

    @cached_property
    def _scaling(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.mean).view(1, 3, 1, 1), torch.tensor(self.std).view(1, 3, 1, 1)


def varied(pixels: NDArray[np.uint8], augment: Augment, random: np.random.Generator) -> NDArray[np.uint8]:
    """``pixels`` uint8 (B, S, S, 3), each cropped, brought back to its size and mirrored as ``augment`` lets chance."""
    side = pixels.shape[1]
    out = np.empty_like(pixels)
    for row, picture in enumerate(pixels):
        share, ratio = random.uniform(augment.crop, 1.0), np.exp(random.uniform(-_RATIO, _RATIO))
        wide, tall = (min(1.0, (share * value) ** 0.5) * side for value in (ratio, 1 / ratio))
        left, top = random.uniform(0, side - wide), random.uniform(0, side - tall)
        image = Image.fromarray(picture)
        if augment.crop < 1:
            box = (left, top, left + wide, top + tall)
            image = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
        if random.random() < augment.flip:
            image = ImageOps.mirror(image)
        out[row] = np.asarray(image)
    return out


def image_spec(config: DualConfig) -> ImageSpec:
    """How pictures become ``pixel_values`` for a model of ``config``, as the device does it."""
    resize = "squash" if config.resize == "squash" else "shortest_edge"
    return ImageSpec(
        size=config.image.image_size,
        resize=resize,
        interpolation=config.interpolation,
        mean=list(config.mean),
        std=list(config.std),
    )


def make_pairs(
    data: PictureTextSet,
    config: DualConfig,
    tokenizer: ClipTokenizer,
    progress: Progress = Silent(),
    augment: Augment | None = None,
) -> Pairs:
    """``data`` read once: every picture resized and cut by the device's own preprocessing, every caption tokenized.

    ``augment``: batches vary their pictures so; None, or nothing to vary, leaves them as they are.
    """
    pixels = read_pixels(data.pictures, config, progress)
    ids, mask = read_texts(data, config, tokenizer)
    vary = augment if augment is not None and (augment.flip or augment.crop < 1) else None
    return Pairs(pixels, ids, mask, data.picture_of, config.mean, config.std, vary)


def read_pixels(pictures: Pictures, config: DualConfig, progress: Progress = Silent()) -> NDArray[np.uint8]:
    """All ``pictures`` at the model's size, uint8 (P, S, S, 3), by the device's own preprocessing."""
    size = config.image.image_size
    preprocessor = ImagePreprocessor(image_spec(config))
    pixels = np.empty((len(pictures), size, size, 3), np.uint8)
    for row in track(progress, "pictures", range(len(pictures)), len(pictures)):
        pixels[row] = np.asarray(preprocessor.resize(preprocessor.decode(pictures.open(row))))
    return pixels


def and_pictures(pairs: Pairs, pixels: NDArray[np.uint8]) -> Pairs:
    """``pairs`` and pictures without captions (P, S, S, 3), each with a text of no meaning in the place of one."""
    count, last = len(pixels), len(pairs)
    blank = np.zeros((count, pairs.ids.shape[1]), np.int64)
    word = blank.copy()
    word[:, 0] = 1
    return replace(
        pairs,
        pixels=np.concatenate([pairs.pixels, pixels]),
        ids=np.concatenate([pairs.ids, blank]),
        mask=np.concatenate([pairs.mask, word]),
        picture_of=np.concatenate([pairs.picture_of, np.arange(last, last + count)]),
    )


def read_texts(
    data: PictureTextSet, config: DualConfig, tokenizer: ClipTokenizer
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask int64 (C, T) of all captions."""
    ids, mask = tokenizer(data.captions)
    if config.text.fixed_length:
        mask = np.ones_like(mask)  # padding takes part in the answer, so nothing may be cut off
    return ids, mask
