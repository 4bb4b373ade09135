"""What the towers are given: pictures and captions as feeds, and the spec by which a device makes the same of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bundle.dual import DualSpec
from edgekit.bundle.records import TaskSpec
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.folder import reader
from edgekit.distill.clip.pairs import image_spec
from edgekit.errors import EdgekitError, ModelError
from edgekit.export.dual.towers import IDS, MASK, PIXELS, Feed
from edgekit.runtimes import artifact
from edgekit.runtimes.context import ClipTokenizer
from edgekit.runtimes.vision.preprocess import ImagePreprocessor

Example = tuple[NDArray[np.uint8], str]


def spec_of(model: DualEncoder, tokenizer: Path) -> TaskSpec:
    """What task.json says of ``model``: how pictures become pixels, texts tokens, and cosines scores.

    Raises ModelError for a ``tokenizer`` that cannot be used.
    """
    config = model.config
    try:
        pad_id = reader(tokenizer, config).pad_id
    except EdgekitError as error:
        raise ModelError(str(tokenizer), found=str(error), expected="a tokenizer.json with an end token") from None
    bias = None if model.logit_bias is None else model.logit_bias.item()
    return TaskSpec(
        task="clip",
        labels=[],
        max_length=config.text.context_length,
        stride=0,
        pad_id=pad_id,
        normalize=True,
        pictures=image_spec(config),
        similarity=DualSpec(logit_scale=model.scale().item(), logit_bias=bias),
        fixed_length=config.text.fixed_length,
    )


class Inputs:
    """Feeds of both towers by the task.json and tokenizer.json of an artifact's folder."""

    def __init__(self, folder: Path) -> None:
        spec = artifact.read_spec(folder)
        self.length, self.pad_id, self.fixed = spec.max_length, spec.pad_id, spec.fixed_length
        self.pictures = ImagePreprocessor(spec.pictures)
        self.tokenizer = ClipTokenizer(Path(folder) / "tokenizer.json", self.length, self.pad_id)

    def of(self, name: str, examples: Sequence[Example]) -> list[Feed]:
        """One feed a picture, or a caption, batch 1; texts at their own length where the tower takes that."""
        if name == "image":
            return [{PIXELS: self.pictures([picture])} for picture, _ in examples]
        return [self.text(caption) for _, caption in examples]

    def text(self, caption: str) -> Feed:
        """A caption, batch 1, at its own length where the tower takes that."""
        ids, mask = self.tokenizer([caption])
        count = self.length if self.fixed else int(mask.sum())
        return {IDS: ids[:, :count], MASK: mask[:, :count]}

    def padded(self, feeds: Sequence[Feed]) -> Feed:
        """Feeds of one tower as one batch, texts padded on the right to the longest."""
        if PIXELS in feeds[0]:
            return {PIXELS: np.concatenate([feed[PIXELS] for feed in feeds])}
        longest = max(feed[IDS].shape[1] for feed in feeds)
        fill = {IDS: self.pad_id, MASK: 0}
        return {
            name: np.concatenate([_right(feed[name], longest, value) for feed in feeds]) for name, value in fill.items()
        }


def _right(rows: NDArray[Any], length: int, value: int) -> NDArray[Any]:
    return np.pad(rows, ((0, 0), (0, length - rows.shape[1])), constant_values=value)
