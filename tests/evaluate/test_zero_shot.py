"""Zero-shot accuracy, confusion and closeness to the teacher, against plain readings of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from edgekit.errors import DataError, EngineError
from edgekit.evaluate import (
    closeness,
    closeness_drop,
    confusion,
    similarities,
    zero_shot_drop,
    zero_shot_scores,
)
from edgekit.evaluate.intervals import exact_share


@st.composite
def answers(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n, classes = draw(st.integers(1, 20)), draw(st.integers(2, 8))
    rows = st.lists(st.integers(-4, 4), min_size=classes, max_size=classes)
    scores = draw(st.lists(rows, min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    return np.array(scores, np.float32) / 4, np.array(labels)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_top_k_and_confusion(given_answers: tuple) -> None:
    scores, labels = given_answers
    found = zero_shot_scores(scores, labels)
    for k in (1, 5):
        right = [
            sum(other >= row[label] for place, other in enumerate(row) if place != label) < k
            for row, label in zip(scores.tolist(), labels.tolist(), strict=True)
        ]
        assert found[f"top{k}"].per_item.tolist() == right
        assert found[f"top{k}"].value == np.mean(right)
        assert (found[f"top{k}"].low, found[f"top{k}"].high) == exact_share(sum(right), len(right))
    table = found["top1"].details["confusion"]
    assert table.sum() == len(labels) and table.diagonal().sum() == found["top1"].per_item.sum()
    assert table.sum(axis=1).tolist() == np.bincount(labels, minlength=scores.shape[1]).tolist()


def test_without_ties_it_is_what_sklearn_says() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.standard_normal((400, 7)), random.integers(0, 6, 400)
    scores[np.arange(400), labels] += 1
    predicted = scores.argmax(axis=1)
    assert np.array_equal(confusion(scores, labels), confusion_matrix(labels, predicted, labels=range(7)))
    found = zero_shot_scores(scores, labels)["top1"]
    keep = predicted != 6  # sklearn warns of classes that only predictions have
    assert found.details["balanced"] == pytest.approx(np.mean([(predicted[labels == c] == c).mean() for c in range(6)]))
    assert balanced_accuracy_score(labels[keep], predicted[keep]) >= found.details["balanced"]


def test_a_model_that_says_the_same_of_everything_is_never_right() -> None:
    labels = np.arange(100) % 10
    found = zero_shot_scores(similarities(np.ones((100, 8)), np.ones((10, 8))), labels)
    assert found["top1"].value == 0 and found["top5"].value == 0
    same_picture = similarities(np.ones((100, 8)), np.random.default_rng(0).standard_normal((10, 8)))
    assert zero_shot_scores(same_picture, labels)["top1"].value == 0.1  # one answer for all: chance


def test_similarities_are_cosines() -> None:
    found = similarities(np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 5.0], [2.0, 0.0]]))
    np.testing.assert_allclose(found, [[0, 1], [0.5**0.5, 0.5**0.5]], atol=1e-6)


def test_paired_drop_of_zero_shot() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 8, 300)
    before = random.standard_normal((300, 8))
    before[np.arange(300), labels] += 2
    after = before + random.standard_normal((300, 8))
    lost = zero_shot_drop(before, after, labels)
    a, b = zero_shot_scores(before, labels), zero_shot_scores(after, labels)
    assert lost["top1"].value == pytest.approx(a["top1"].value - b["top1"].value)
    assert 0 < lost["top1"].low < lost["top1"].high
    none = zero_shot_drop(before, before, labels)["top5"]
    assert (none.value, none.low, none.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (np.ones((2, 3)), np.array([0])),
        (np.ones((2, 3)), np.array([0, 3])),
        (np.ones((0, 3)), np.zeros(0, int)),
        (np.full((1, 3), np.nan), np.array([0])),
    ],
)
def test_scores_that_do_not_fit(scores: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(DataError):
        zero_shot_scores(scores, labels)
    with pytest.raises(DataError, match=r"\(C, D\)"):
        similarities(np.ones((2, 3)), np.ones((2, 4)))


# --- closeness


def test_a_common_part_hides_damage_and_centring_shows_it() -> None:
    random = np.random.default_rng(0)
    teacher = random.standard_normal((200, 32)) + 10
    broken = random.standard_normal((200, 32)) + 10  # the common part alone is right
    found = closeness(teacher, broken)
    assert found["cosine_to_teacher"].value > 0.97
    assert abs(found["centred_cosine_to_teacher"].value) < 0.05
    moved = closeness(teacher, teacher + 20 * np.eye(32)[0])  # an offset of its own
    assert moved["cosine_to_teacher"].value > 0.93 and moved["centred_cosine_to_teacher"].value < 0.6
    exact = closeness(teacher, 3 * teacher)
    assert all(one.value == pytest.approx(1) and one.low == pytest.approx(1) for one in exact.values())


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 30), st.integers(1, 6), st.integers(0, 1000))
def test_closeness_is_the_mean_cosine(n: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((2, n, width))
    found = closeness(a, b)
    u, v = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (a, b))
    assert found["cosine_to_teacher"].value == pytest.approx((u * v).sum(axis=1).mean())
    x, y = u - u.mean(axis=0), v - u.mean(axis=0)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    if lengths.min() > 1e-9:
        assert found["centred_cosine_to_teacher"].value == pytest.approx(((x * y).sum(axis=1) / lengths).mean())
    for one in found.values():
        assert one.low <= one.value + 1e-12 and one.value - 1e-12 <= one.high and one.n == n


def test_paired_drop_of_closeness() -> None:
    random = np.random.default_rng(1)
    teacher = random.standard_normal((150, 16))
    near, far = (teacher + noise * random.standard_normal((150, 16)) for noise in (0.1, 0.4))
    lost = closeness_drop(teacher, near, far)
    for name, drop in lost.items():
        assert drop.value == pytest.approx(closeness(teacher, near)[name].value - closeness(teacher, far)[name].value)
        assert 0 < drop.low < drop.high
    none = closeness_drop(teacher, near, near)["cosine_to_teacher"]
    assert (none.low, none.high) == (0, 0)


def test_one_row_has_no_mean_to_take_away() -> None:
    assert set(closeness(np.ones((1, 3)), np.ones((1, 3)))) == {"cosine_to_teacher"}
    with pytest.raises(DataError, match="shapes"):
        closeness(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(EngineError, match="NaN"):
        closeness(np.ones((2, 3)), np.full((2, 3), np.nan))
