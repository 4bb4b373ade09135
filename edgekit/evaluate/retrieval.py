"""Image-text retrieval, both ways, with several captions a picture; and search for the pictures of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.evaluate import intervals
from edgekit.evaluate.compare import Drop
from edgekit.evaluate.metrics import Score
from edgekit.evaluate.outputs import Array
from edgekit.evaluate.ranking import DEPTHS, Ranked, rank

TEXT_TO_IMAGE, IMAGE_TO_TEXT = "text_to_image", "image_to_text"


@dataclass(frozen=True)
class Retrieval:
    """Both directions of one model on one set. ``picture_of`` (m,): the picture of each caption, of ``n`` pictures."""

    text_to_image: Ranked
    image_to_text: Ranked
    picture_of: NDArray[np.int64]
    n: int


def retrieve(images: Array, texts: Array, picture_of: NDArray[np.int64]) -> Retrieval:
    """Rank all ``images`` (n, D) for each of ``texts`` (m, D) and all texts for each image, by cosine.

    A caption's one right answer is its picture; a picture's are all of its captions, and its rank is that of the best
    one. DataError where shapes do not fit or a picture has no caption, EngineError on NaN.
    """
    n = len(images)
    own = np.asarray(picture_of, np.int64)
    if len(own) != len(texts):
        raise DataError("captions", found=f"{len(texts)} embeddings", expected=f"{len(own)}, one a caption")
    if not np.array_equal(np.unique(own), np.arange(n)):
        raise DataError("captions", found="other picture numbers", expected=f"each of 0 to {n - 1}")
    pictures = np.arange(n, dtype=np.int64)
    return Retrieval(rank(texts, images, own, pictures), rank(images, texts, pictures, own), own, n)


def retrieval_scores(found: Retrieval) -> dict[str, Score]:
    """Every figure by name, with its 95 % interval: bootstrap over pictures, each with all of its captions.

    ``text_to_image_r1``, ``_r5``, ``_r10``, ``_map``, ``_median_rank``; the same for ``image_to_text``, and its
    ``_p1``, ``_p5``, ``_p10`` (share of right captions among the first k). Shares are in 0..1; a median rank is best
    at 1. ``n`` and ``per_item`` are captions for the first, pictures for the second.
    """
    scores = {name: _share(name, each, _pictures(found, name)) for name, each in _shares(found).items()}
    for direction, ranked in _directions(found):
        name = f"{direction}_median_rank"
        scores[name] = _median(name, ranked.first, _pictures(found, name))
    return scores


def retrieval_drop(before: Retrieval, after: Retrieval) -> dict[str, Drop]:
    """What each share of :func:`retrieval_scores` lost from ``before`` to ``after`` on one set, paired by picture.

    The interval of two models with the same ranks is [0, 0]. DataError where the sets differ.
    """
    if not np.array_equal(before.picture_of, after.picture_of):
        raise DataError("retrieval of two models", found="two sets", expected="the same pictures and captions")
    lost = {name: each - _shares(after)[name] for name, each in _shares(before).items()}
    return {name: Drop(float(each.mean()), *_interval(each, _pictures(before, name))) for name, each in lost.items()}


def class_search(images: Array, labels: NDArray[np.int64], classes: Array) -> dict[str, Score]:
    """Find the pictures of each class: ``classes`` (C, D) are the queries, ``images`` (n, D) with ``labels`` (n,).

    ``map`` and ``p1``, ``p5``, ``p10``: means over the classes that have pictures, bootstrap over those classes.
    """
    present = np.unique(labels)
    if len(present) and not 0 <= present[0] <= present[-1] < len(classes):
        raise DataError("labels", found=f"{present[0]} to {present[-1]}", expected=f"0 to {len(classes) - 1}")
    ranked = rank(classes[present], images, present, np.asarray(labels, np.int64))
    shares = {"map": ranked.average_precision, **{f"p{k}": each for k, each in ranked.precision.items()}}
    return {name: _share(name, each, np.arange(len(each))) for name, each in shares.items()}


def _directions(found: Retrieval) -> list[tuple[str, Ranked]]:
    return [(TEXT_TO_IMAGE, found.text_to_image), (IMAGE_TO_TEXT, found.image_to_text)]


def _pictures(found: Retrieval, name: str) -> NDArray[np.int64]:
    """The picture of each query of the direction that ``name`` begins with."""
    return found.picture_of if name.startswith(TEXT_TO_IMAGE) else np.arange(found.n, dtype=np.int64)


def _shares(found: Retrieval) -> dict[str, NDArray[np.float64]]:
    shares: dict[str, NDArray[np.float64]] = {}
    for direction, ranked in _directions(found):
        shares |= {f"{direction}_r{k}": ranked.within(k) for k in DEPTHS}
        shares[f"{direction}_map"] = ranked.average_precision
    return shares | {f"{IMAGE_TO_TEXT}_p{k}": each for k, each in found.image_to_text.precision.items()}


def _share(name: str, each: NDArray[np.float64], pictures: NDArray[np.int64]) -> Score:
    return Score(name, float(each.mean()), *_interval(each, pictures), len(each), each)


def _interval(each: NDArray[np.float64], pictures: NDArray[np.int64]) -> tuple[float, float]:
    """Of the mean, over draws of pictures: captions of one picture are not independent."""
    total = np.bincount(pictures, weights=each)
    count = np.bincount(pictures).astype(np.float64)
    return intervals.bootstrap(len(count), lambda draw: total[draw].sum(axis=1) / count[draw].sum(axis=1))


def _median(name: str, ranks: NDArray[np.int64], pictures: NDArray[np.int64]) -> Score:
    order = np.argsort(ranks, kind="stable")
    ascending, of = ranks[order], pictures[order]

    def of_draw(draw: NDArray[np.int64]) -> float:
        below = np.cumsum(np.bincount(draw, minlength=len(draw))[of])
        middle = np.searchsorted(below, [(below[-1] - 1) // 2, below[-1] // 2], side="right")
        return float(ascending[middle].mean())

    low, high = intervals.bootstrap(int(pictures.max()) + 1, lambda draws: np.array([of_draw(draw) for draw in draws]))
    return Score(name, float(np.median(ranks)), low, high, len(ranks), ranks.astype(np.float64))
