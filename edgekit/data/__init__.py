"""Texts to train, choose and report on: readers, rules, splits."""

from __future__ import annotations

from edgekit.data.load import load_eval, load_splits
from edgekit.data.records import Splits, TextSet, fingerprint, fold

__all__ = ["Splits", "TextSet", "fingerprint", "fold", "load_eval", "load_splits"]
