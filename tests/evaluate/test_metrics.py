from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.data import TextSet
from edgekit.errors import DataError, EngineError
from edgekit.evaluate import agreement, paired_drop, parity, score
from edgekit.evaluate.intervals import bootstrap, exact_share
from edgekit.evaluate.spans import span_f1


def labelled(labels: list[int]) -> TextSet:
    return TextSet(texts=[str(i) for i in range(len(labels))], labels=np.array(labels, np.int64))


def one_hot(classes: np.ndarray, width: int = 3) -> np.ndarray:
    return np.eye(width, dtype=np.float32)[classes]


def test_accuracy_and_its_exact_interval() -> None:
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    answers = np.array(labels)
    answers[0] = 1
    found = score("classify", one_hot(answers), labelled(labels))
    assert (found.metric, found.value, found.n) == ("accuracy", 0.9, 10)
    assert found.per_item is not None
    assert found.per_item.tolist() == [0.0] + [1.0] * 9
    # Clopper and Pearson for 9 of 10, as in the tables
    assert found.low == pytest.approx(0.5550, abs=1e-4)
    assert found.high == pytest.approx(0.9975, abs=1e-4)


@given(n=st.integers(1, 400), data=st.data())
def test_exact_interval_holds_the_share(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = exact_share(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    assert high > low


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    exact = drawn = 0
    for _ in range(200):
        sample = (random.random(150) < 0.9).astype(float)
        low, high = exact_share(int(sample.sum()), 150)
        exact += low <= 0.9 <= high
        low, high = bootstrap(150, lambda draw, x=sample: x[draw].mean(axis=1))
        drawn += low <= 0.9 <= high
    assert exact >= 188  # conservative: at least 95 %, less what 200 trials may stray
    assert drawn >= 176


def test_spearman_agrees_with_scipy_and_ranks() -> None:
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    a, b = random.normal(size=(60, 8)), random.normal(size=(60, 8))
    truth = random.integers(0, 6, size=60).astype(np.float32)
    data = TextSet(texts=["a"] * 60, pairs=["b"] * 60, scores=truth)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    found = score("embed", (a, b), data)
    assert found.metric == "spearman"
    assert found.value == pytest.approx(spearmanr(cosine, truth).statistic)
    assert found.low < found.value < found.high
    assert score("embed", (a, b), data) == found  # one seed, one interval


def test_embeddings_without_pairs_are_held_against_the_teacher() -> None:
    data = TextSet(texts=["a", "b"])
    x = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert score("embed", x, data, teacher=3 * x).value == pytest.approx(1.0)
    with pytest.raises(DataError, match="teacher"):
        score("embed", x, data)


def test_tag_counts_words_and_spans() -> None:
    names = ["O", "B-LOC", "I-LOC"]
    data = TextSet(texts=["in New York", "Oslo"], tags=[[(0, 2, 0), (3, 6, 1), (7, 11, 2)], [(0, 4, 1)]], labels=None)
    answers = [one_hot(np.array([0, 1, 0])), one_hot(np.array([1]))]
    found = score("tag", answers, data, names=names)
    assert (found.metric, found.value, found.n) == ("token_accuracy", 0.75, 4)
    assert found.details["span_f1"] == pytest.approx(0.5)  # Oslo is right, New York is cut short
    with pytest.raises(DataError, match="text 1"):
        score("tag", [answers[0], one_hot(np.array([1, 1]))], data)


def test_span_f1_needs_the_bio_scheme() -> None:
    assert span_f1([[0, 1]], [[0, 1]], ["noun", "verb"]) == {}


def test_no_drop_between_a_model_and_itself() -> None:
    labels = [0, 1, 2] * 20
    outputs = one_hot(np.array(labels))
    found = paired_drop("classify", outputs, outputs, labelled(labels))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_paired_drop_is_narrower_than_two_intervals_apart() -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 1000)
    before = np.where(random.random(1000) < 0.85, labels, (labels + 1) % 3)
    after = before.copy()
    after[:30] = (labels[:30] + 2) % 3  # 30 of the first answers turn wrong, where they were right
    data = labelled(labels.tolist())
    a, b = score("classify", one_hot(before), data), score("classify", one_hot(after), data)
    drop = paired_drop("classify", one_hot(before), one_hot(after), data)
    assert drop.value == pytest.approx(a.value - b.value)
    assert 0 < drop.low < drop.value < drop.high
    assert drop.high - drop.low < (a.high - a.low) / 2


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_drop_is_antisymmetric(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, 50)
    x, y = random.normal(size=(50, 3)), random.normal(size=(50, 3))
    data = labelled(labels.tolist())
    there, back = paired_drop("classify", x, y, data), paired_drop("classify", y, x, data)
    assert there.value == -back.value
    assert there.low == pytest.approx(-back.high)


def test_paired_drop_of_pairs_and_tags() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(size=(80, 8)), random.normal(size=(80, 8))
    truth = ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).astype(np.float32)
    pairs = TextSet(texts=["a"] * 80, pairs=["b"] * 80, scores=truth)
    drop = paired_drop("embed", (a, b), (a, b + random.normal(size=b.shape)), pairs)
    assert 0 < drop.low < drop.value < drop.high
    words = TextSet(texts=["a b"] * 9, tags=[[(0, 1, 0), (2, 3, 1)]] * 9)
    right, wrong = [one_hot(np.array([0, 1]))] * 9, [one_hot(np.array([0, 0]))] * 9
    assert paired_drop("tag", right, wrong, words).value == 0.5


def test_agreement_and_parity() -> None:
    x = one_hot(np.array([0, 1, 2, 0]))
    y = one_hot(np.array([0, 1, 1, 0]))
    assert agreement("classify", x, y) == 0.75
    assert agreement("embed", x, 2 * x) == pytest.approx(1.0)
    near = parity(x, x + 1e-3)
    assert near.max_abs == pytest.approx(1e-3, rel=1e-3)
    assert near.cosine_min > 0.999


def test_centred_parity_sees_what_a_large_common_part_hides() -> None:
    random = np.random.default_rng(4)
    common = np.full(16, 100.0)
    a, b = random.normal(size=(30, 16)), random.normal(size=(30, 16))
    found = parity(common + a, common + b)
    assert found.cosine_mean > 0.999
    assert found.centred_mean is not None
    assert found.centred_mean < 0.3


def test_nan_is_an_error_not_a_class() -> None:
    broken = one_hot(np.array([0, 1])).astype(np.float32)
    broken[1, 2] = np.nan
    with pytest.raises(EngineError, match="1 of 2 outputs"):
        score("classify", broken, labelled([0, 1]))


def test_wrong_sizes_and_empty_sets_are_named() -> None:
    with pytest.raises(DataError, match="2 outputs"):
        score("classify", one_hot(np.array([0, 1])), labelled([0, 1, 2]))
    with pytest.raises(DataError, match="no items"):
        score("classify", np.zeros((0, 3)), labelled([]))
    with pytest.raises(DataError, match="one shape"):
        parity(np.zeros((2, 3)), np.zeros((2, 4)))
