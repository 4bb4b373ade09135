"""What the towers are given: pictures and captions as feeds, and the spec by which a device makes the same of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgekit.distill.clip.dual import DualEncoder
from edgekit.errors import ModelError
from edgekit.export.dual.towers import IDS, MASK, PIXELS, Feed, read_spec
from edgekit.runtimes.context import ClipTokenizer
from edgekit.runtimes.dual import DualSpec
from edgekit.runtimes.vision.preprocess import ImagePreprocessor
from edgekit.runtimes.vision.spec import ImageSpec

Example = tuple[NDArray[np.uint8], str]
_PADS = ("[PAD]", "<pad>", "<|pad|>")


def spec_of(model: DualEncoder, tokenizer: Path) -> dict[str, Any]:
    """What task.json says of ``model``: how pictures become pixels, texts tokens, and cosines scores."""
    config = model.config
    pictures = ImageSpec(
        size=config.image.image_size,
        resize="shortest_edge" if config.resize == "crop" else "squash",
        interpolation=config.interpolation,
        mean=list(config.mean),
        std=list(config.std),
    )
    bias = None if model.logit_bias is None else model.logit_bias.item()
    return {
        "task": "clip",
        "labels": [],
        "max_length": config.text.context_length,
        "stride": 0,
        "pad_id": _pad_id(tokenizer),
        "normalize": True,
        "fixed_length": config.text.fixed_length,
        "pictures": asdict(pictures),
        "similarity": asdict(DualSpec(logit_scale=model.scale().item(), logit_bias=bias)),
    }


def _pad_id(path: Path) -> int:
    """What the tokenizer's file says; else its token of that name; else the end token, as transformers has it."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises a bare Exception
        raise ModelError(str(path), found=str(error)[:200], expected="a tokenizer.json") from None
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    found = [tokenizer.token_to_id(name) for name in _PADS]
    ends = tokenizer.encode("").ids
    known = [place for place in (*found, *ends[-1:]) if place is not None]
    if not known:
        raise ModelError(str(path), found="neither padding nor an end token", expected="one of them")
    return int(known[0])


class Inputs:
    """Feeds of both towers by the task.json and tokenizer.json of an artifact's folder."""

    def __init__(self, folder: Path) -> None:
        spec = read_spec(folder)
        self.length, self.pad_id, self.fixed = spec["max_length"], spec["pad_id"], spec["fixed_length"]
        self.pictures = ImagePreprocessor(ImageSpec(**spec["pictures"]))
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
