"""Texts and pictures to train, choose and report on: readers, rules, splits."""

from __future__ import annotations

from typing import TypeAlias

from edgekit.data.load import load_eval, load_splits
from edgekit.data.pictures import PictureSplits, PictureTextSet
from edgekit.data.records import Splits, TextSet, fingerprint, fold

HeldOut: TypeAlias = TextSet | PictureTextSet
AnySplits: TypeAlias = Splits | PictureSplits[PictureTextSet]

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
    "load_splits",
]
