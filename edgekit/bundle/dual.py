"""What a bundle says of a dual encoder: how pictures are prepared, how cosines become scores, and its two towers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgekit.bundle.record import Record
from edgekit.errors import InputError

# Of the 400 million pictures that CLIP was trained on (Radford et al. 2021; openai/CLIP, clip.py), RGB in 0 to 1.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RESIZES = ("shortest_edge", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")
LARGEST = 4096
EXTREME = 1e6  # of scales, whose quotient must stay a float32
PLACE = "{}"  # where a template takes the label
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ImageSpec(Record):
    """``size``: pixels a side of the square that the model takes. The defaults are CLIP's.

    ``resize``: "shortest_edge" makes the shorter side ``edge`` long, keeps the shape and cuts ``size`` x ``size`` from
    the centre; "squash" makes it ``edge`` x ``edge`` whatever its shape (SigLIP). ``edge`` 0 is ``size``; a larger one
    leaves a border for the cut. ``interpolation``: "bicubic" or "bilinear", antialiased, on 8-bit values.
    ``mean`` and ``std``: of RGB in 0 to 1; a value v becomes (v / 255 - mean) / std.
    Raises :class:`InputError` for values that cannot be meant.
    """

    size: int = 224
    resize: str = "shortest_edge"
    edge: int = 0
    interpolation: str = "bicubic"
    mean: list[float] = field(default_factory=lambda: list(CLIP_MEAN))
    std: list[float] = field(default_factory=lambda: list(CLIP_STD))

    def __post_init__(self) -> None:
        if not 1 <= self.size <= LARGEST:
            raise InputError("size", found=self.size, expected=f"1 to {LARGEST} pixels")
        if self.resize not in RESIZES:
            raise InputError("resize", found=repr(self.resize), expected=", ".join(RESIZES))
        if self.edge and not self.size <= self.edge <= LARGEST:
            raise InputError("edge", found=self.edge, expected=f"0, or {self.size} (size) to {LARGEST} pixels")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError("interpolation", found=repr(self.interpolation), expected=", ".join(INTERPOLATIONS))
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise InputError(name, found=values, expected="three numbers: red, green, blue")
        if min(self.std) <= 0:
            raise InputError("std", found=self.std, expected="three numbers above 0")

    @property
    def resized_edge(self) -> int:
        """Pixels of the side that is resized, before the cut."""
        return self.edge or self.size


@dataclass(frozen=True)
class DualSpec(Record):
    """How cosines become scores, and how labels become texts.

    ``logit_scale``: what a cosine is multiplied with, exp() already taken (CLIP: 100 at most). ``logit_bias``: None for
    a softmax over the labels (CLIP), a number for one sigmoid a label (SigLIP, Zhai et al. 2023). ``temperature``:
    logits are divided by it; fitted after quantization where scores are to be calibrated (Guo et al. 2017).
    ``templates``: for labels, where the caller gives none. Raises :class:`InputError`.
    """

    logit_scale: float = 100.0
    logit_bias: float | None = None
    temperature: float = 1.0
    templates: list[str] = field(default_factory=lambda: ["a photo of a {}."])

    def __post_init__(self) -> None:
        for name, value in (("logit_scale", self.logit_scale), ("temperature", self.temperature)):
            if not 1 / EXTREME <= value <= EXTREME:
                raise InputError(name, found=value, expected=f"a number above 0, {1 / EXTREME:g} to {EXTREME:g}")
        if self.logit_bias is not None and not -EXTREME <= self.logit_bias <= EXTREME:
            raise InputError("logit_bias", found=self.logit_bias, expected=f"none, or {-EXTREME:g} to {EXTREME:g}")
        check_templates(self.templates)

    def scores(self, cosines: Floats) -> Floats:
        """float32 (n, C) cosines to scores of the same shape, 0 to 1."""
        logits = (cosines * np.float32(self.logit_scale / self.temperature)).astype(np.float32)
        if self.logit_bias is None:
            highest = logits.max(-1, keepdims=True, initial=-np.inf)
            raised: Floats = np.exp(logits - highest)
            return raised / raised.sum(-1, keepdims=True)
        shifted = logits + np.float32(self.logit_bias / self.temperature)
        return np.exp(-np.logaddexp(np.float32(0), -shifted))  # the sigmoid, without overflow


@dataclass(frozen=True)
class Tower(Record):
    """One tower's file in a bundle, its precision, the names of its inputs, and its output's ("": the only one)."""

    path: str
    precision: str
    inputs: list[str]
    output: str = ""


def check_templates(templates: Sequence[str]) -> None:
    """Raises ``InputError`` unless each is a text with ``{}`` in it."""
    if not templates:
        raise InputError("templates", found="none", expected=f"at least one, such as 'a photo of a {PLACE}.'")
    for template in templates:
        if not isinstance(template, str) or PLACE not in template:
            raise InputError("templates", found=repr(template)[:60], expected=f"a text with {PLACE} for the label")
