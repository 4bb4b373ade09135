"""How right a model is: one number a task, with its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.data.pictures import PictureTextSet
from edgekit.errors import DataError
from edgekit.evaluate import intervals
from edgekit.evaluate.outputs import Outputs, cosines, pair, rows

if TYPE_CHECKING:
    from edgekit.data import HeldOut, TextSet


METRICS = {"classify": "accuracy", "tag": "token_accuracy", "clip": "recall_at_1"}  # of tasks that have one


@dataclass(frozen=True)
class Score:
    """``value`` in [``low``, ``high``] (95 %) over ``n`` items.

    ``per_item`` is float64: 0 or 1 a text (accuracy) or word (token_accuracy), the cosine of each text
    (cosine_to_teacher), None for a rank correlation, which no item has alone. ``details`` holds further figures
    without an interval.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    per_item: NDArray[np.float64] | None = field(default=None, repr=False)
    details: dict[str, Any] = field(default_factory=dict)


def metric_name(task: str, data: HeldOut) -> str:
    """The metric that :func:`score` gives for ``task`` on ``data``."""
    if task in METRICS or isinstance(data, PictureTextSet):
        return METRICS[task]
    return "spearman" if data.pairs is not None else "cosine_to_teacher"


def score(
    task: str, outputs: Outputs, data: HeldOut, *, teacher: Outputs | None = None, names: list[str] | None = None
) -> Score:
    """Score ``outputs`` (shapes: :mod:`edgekit.evaluate.outputs`) on ``data``.

    classify: accuracy, exact interval. embed with pairs: Spearman of the cosines with the scores, 0..1, bootstrap over
    pairs; without pairs: mean cosine to ``teacher``, bootstrap over texts. tag: accuracy over words, bootstrap over
    texts; span F1 in ``details`` where ``names`` are in the BIO scheme. clip: R@1 of both directions, their mean.
    Raises DataError when the data lack what the metric needs, EngineError on NaN.
    """
    if len(data) == 0:
        raise DataError("no items to score", expected="at least one")
    if isinstance(data, PictureTextSet):
        from edgekit.evaluate.dual import recall

        return recall(outputs, data)
    if task == "classify":
        return _accuracy(rows(outputs), _labels(data))
    if task == "tag":
        return _token_accuracy(outputs, data, names)
    if data.pairs is not None:
        return _spearman(similarity(outputs), _scores(data))
    if teacher is None:
        raise DataError(
            "embeddings without pairs", expected="the teacher's embeddings to compare with", fix="Give pairs."
        )
    each = cosines(rows(teacher), rows(outputs))
    low, high = intervals.bootstrap(len(each), lambda draw: each[draw].mean(axis=1))
    return Score("cosine_to_teacher", float(each.mean()), low, high, len(each), each)


def _labels(data: TextSet) -> NDArray[np.int64]:
    if data.labels is None:
        raise DataError("the data set has no labels", expected="a label for every text", fix="Name its column.")
    return np.asarray(data.labels, np.int64)


def _scores(data: TextSet) -> NDArray[np.float64]:
    if data.scores is None:
        raise DataError("the data set has pairs without scores", expected="a score for every pair")
    return np.asarray(data.scores, np.float64)


def similarity(outputs: Outputs) -> NDArray[np.float64]:
    """Cosine of the two embeddings of each pair, (n,)."""
    return cosines(*pair(outputs))


def hits(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where the top class is the label, else 0; (n,)."""
    if len(logits) != len(labels):
        raise DataError(f"{len(logits)} outputs", expected=f"{len(labels)}, one a label")
    return (logits.argmax(axis=1) == labels).astype(np.float64)


def _accuracy(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Score:
    from sklearn.metrics import f1_score

    right = hits(logits, labels)
    low, high = intervals.exact_share(int(right.sum()), len(right))
    details = {
        "macro_f1": float(f1_score(labels, logits.argmax(axis=1), average="macro", zero_division=0.0)),
        "majority_share": float(np.bincount(labels).max() / len(labels)),
    }
    return Score("accuracy", float(right.mean()), low, high, len(right), right, details)


def _spearman(similar: NDArray[np.float64], truth: NDArray[np.float64]) -> Score:
    value = float(intervals.spearman_rows(similar[None], truth[None])[0])
    low, high = intervals.bootstrap(len(truth), lambda draw: intervals.spearman_rows(similar[draw], truth[draw]))
    return Score("spearman", value, low, high, len(truth))


@dataclass(frozen=True)
class WordHits:
    """Right words and all words of each text, (n,) each; ``flat`` is 0 or 1 a word."""

    right: NDArray[np.float64]
    total: NDArray[np.float64]
    flat: NDArray[np.float64]

    def share(self, draw: NDArray[np.int64]) -> NDArray[np.float64]:
        """Token accuracy of each draw of texts."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.right[draw].sum(axis=1) / self.total[draw].sum(axis=1)


def word_hits(outputs: Outputs, data: TextSet) -> WordHits:
    """Compare the logits of each text's words with its tags. Raises DataError when their numbers differ."""
    if data.tags is None:
        raise DataError("the data set has no tags", expected="a tag for every word")
    each = []
    for number, (logits, tags) in enumerate(zip(outputs, data.tags, strict=True)):
        if len(logits) != len(tags):
            raise DataError(f"text {number}", found=f"{len(logits)} words in the outputs", expected=f"{len(tags)}")
        truth = np.array([label for _, _, label in tags], np.int64)
        each.append(hits(rows(logits), truth) if len(tags) else np.zeros(0))
    return WordHits(
        np.array([e.sum() for e in each]), np.array([len(e) for e in each], np.float64), np.concatenate([*each, []])
    )


def _token_accuracy(outputs: Outputs, data: TextSet, names: list[str] | None) -> Score:
    from edgekit.evaluate.spans import span_f1

    found = word_hits(outputs, data)
    if not len(found.flat):
        raise DataError("no words to score", expected="at least one")
    low, high = intervals.bootstrap(len(data), found.share)
    details: dict[str, Any] = {}
    if names and data.tags is not None:
        truth = [[label for _, _, label in tags] for tags in data.tags]
        answers = [np.asarray(logits).argmax(axis=-1).tolist() if len(logits) else [] for logits in outputs]
        details = span_f1(truth, answers, names)
    return Score("token_accuracy", float(found.flat.mean()), low, high, len(found.flat), found.flat, details)
