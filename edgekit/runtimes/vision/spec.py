"""How pictures become a model's input, as a record that a bundle can hold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edgekit.bundle.records import Record
from edgekit.errors import InputError

# Of the 400 million pictures that CLIP was trained on (Radford et al. 2021; openai/CLIP, clip.py), RGB in 0 to 1.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RESIZES = ("shortest_edge", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")
LARGEST = 4096


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
