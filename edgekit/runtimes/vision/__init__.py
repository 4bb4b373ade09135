"""Pictures on the device: what may come in, and how it becomes ``pixel_values``. numpy and Pillow."""

from edgekit.runtimes.vision.preprocess import ImagePreprocessor
from edgekit.runtimes.vision.spec import CLIP_MEAN, CLIP_STD, ImageSpec

__all__ = ["CLIP_MEAN", "CLIP_STD", "ImagePreprocessor", "ImageSpec"]
