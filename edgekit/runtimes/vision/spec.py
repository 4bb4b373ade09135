"""How pictures become a model's input, as a record that a bundle can hold."""

from __future__ import annotations

from edgekit.bundle.dual import CLIP_MEAN, CLIP_STD, INTERPOLATIONS, RESIZES, ImageSpec

__all__ = ["CLIP_MEAN", "CLIP_STD", "INTERPOLATIONS", "RESIZES", "ImageSpec"]
