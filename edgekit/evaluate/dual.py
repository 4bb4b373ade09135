"""Dual encoders as the gate sees them: one number for both directions of retrieval, with all others in its details."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.evaluate import intervals
from edgekit.evaluate.closeness import closeness
from edgekit.evaluate.compare import Drop
from edgekit.evaluate.metrics import Score
from edgekit.evaluate.outputs import Array, Outputs
from edgekit.evaluate.ranking import DEPTHS, unit
from edgekit.evaluate.retrieval import IMAGE_TO_TEXT, TEXT_TO_IMAGE, Retrieval, retrieve

if TYPE_CHECKING:
    from edgekit.data import PictureTextSet

METRIC = "recall_at_1"


def sides(outputs: Outputs) -> tuple[Array, Array]:
    """Embeddings of the pictures (P, D) and of the captions (C, D). DataError for anything else."""
    if not isinstance(outputs, tuple) or len(outputs) != 2 or outputs[0].shape[1:] != outputs[1].shape[1:]:
        raise DataError("outputs of a dual encoder", found=type(outputs).__name__, expected="(P, D) and (C, D)")
    return outputs


def answered(images: Array, texts: Array, data: PictureTextSet) -> Outputs:
    """Embeddings of pictures (P, D) and captions (C, D). For a model without texts, (0, D), its cached teacher's stand.

    Each caption is then what the teacher says of its picture, so that recall tells how well it is found. Raises
    DataError where there is no cached teacher either.
    """
    if len(texts):
        return images, texts
    if data.targets is None:
        raise DataError("captions", found="a model without a text tower", expected="one, or a cached teacher's targets")
    return images, data.targets[data.picture_of]


def recall(outputs: Outputs, data: PictureTextSet) -> Score:
    """Mean of R@1 text to image and image to text, ``recall_at_1``; 95 % bootstrap over pictures with their captions.

    ``per_item`` (P,): the same mean for each picture: how many of its captions find it, and whether it finds one of
    them. ``details``: R@1, R@5 and R@10 of each direction, such as ``text_to_image_r5``; with a cached teacher the
    cosines of :func:`closeness` of the pictures' embeddings with its own.
    """
    found = retrieve(*sides(outputs), data.picture_of)
    each = _each(found)
    low, high = intervals.bootstrap(len(each), lambda draw: each[draw].mean(axis=1))
    details = {
        f"{name}_r{k}": float(ranked.within(k).mean())
        for name, ranked in ((TEXT_TO_IMAGE, found.text_to_image), (IMAGE_TO_TEXT, found.image_to_text))
        for k in DEPTHS
    }
    if data.targets is not None and data.targets.shape == outputs[0].shape:
        details |= {name: score.value for name, score in closeness(data.targets, sides(outputs)[0]).items()}
    return Score(METRIC, float(each.mean()), low, high, len(each), each, details)


def recall_drop(before: Outputs, after: Outputs, data: PictureTextSet) -> Drop:
    """What :func:`recall` lost from ``before`` to ``after``, paired by picture."""
    lost = _each(retrieve(*sides(before), data.picture_of)) - _each(retrieve(*sides(after), data.picture_of))
    return Drop(float(lost.mean()), *intervals.bootstrap(len(lost), lambda draw: lost[draw].mean(axis=1)))


def same_picture(a: Outputs, b: Outputs) -> float:
    """Share of captions for which two models find the same picture first; their embedding sizes may differ."""
    first, second = (unit(texts, "captions") @ unit(images, "pictures").T for images, texts in (sides(a), sides(b)))
    if first.shape != second.shape:
        raise DataError("outputs of two models", found=f"{first.shape} and {second.shape}", expected="the same sets")
    return float((first.argmax(axis=1) == second.argmax(axis=1)).mean())


def _each(found: Retrieval) -> NDArray[np.float64]:
    """(P,): each picture's own share of both directions. A picture counts once, however many captions it has."""
    right = np.bincount(found.picture_of, weights=found.text_to_image.within(1), minlength=found.n)
    return (right / np.bincount(found.picture_of, minlength=found.n) + found.image_to_text.within(1)) / 2
