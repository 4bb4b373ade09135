"""Texts and pictures to train, choose and report on: readers, rules, splits."""

from __future__ import annotations

from typing import TypeAlias

from edgekit.data.load import load_eval, load_splits
from edgekit.data.pictures import PictureSplits, PictureTextSet
from edgekit.data.records import Splits, TextSet, fingerprint, fold
from edgekit.progress import Progress
from edgekit.recipe import DataConfig

HeldOut: TypeAlias = TextSet | PictureTextSet
AnySplits: TypeAlias = Splits | PictureSplits[PictureTextSet]


def load_parts(data: DataConfig, task: str, seed: int, progress: Progress) -> AnySplits:
    """The three parts of a recipe's data for its ``task``. Errors as in load_splits and load_pairs."""
    if task == "clip":
        from edgekit.data.pairs import load_pairs

        return load_pairs(data, seed)
    return load_splits(data, task, seed, progress)


__all__ = [
    "AnySplits",
    "HeldOut",
    "PictureSplits",
    "PictureTextSet",
    "Splits",
    "TextSet",
    "fingerprint",
    "fold",
    "load_eval",
    "load_parts",
    "load_splits",
]
