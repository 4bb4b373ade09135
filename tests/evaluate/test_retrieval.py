"""Retrieval against a slow, plain reading of its definition; ties count against the model."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import DataError, EngineError
from edgekit.evaluate import Retrieval, class_search, ranking, retrieval_drop, retrieval_scores, retrieve
from edgekit.evaluate.ranking import rank


def plain_positions(scores: np.ndarray, relevant: np.ndarray) -> list[int]:
    """Positions of the relevant items when every irrelevant one that scores as high is put before them."""
    order = sorted(range(len(scores)), key=lambda item: (-round(float(scores[item]), 5), bool(relevant[item])))
    return [place for place, item in enumerate(order, 1) if relevant[item]]


# Directions of few integers: many exact ties, and gaps that are far above rounding where there is none.
vectors = st.lists(st.sampled_from([-2, -1, 0, 1, 2]), min_size=3, max_size=3)


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=7))
    own = np.repeat(np.arange(len(counts)), counts)
    images = draw(st.lists(vectors, min_size=len(counts), max_size=len(counts)))
    texts = draw(st.lists(vectors, min_size=len(own), max_size=len(own)))
    return np.array(images, np.float32), np.array(texts, np.float32), own


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None, :]
    return np.divide(a.astype(float) @ b.T.astype(float), lengths, out=np.zeros(lengths.shape), where=lengths > 0)


@settings(max_examples=80, deadline=None)
@given(searches(), st.integers(1, 40))
def test_both_directions_agree_with_the_definition(search: tuple, cells: int) -> None:
    images, texts, own = search
    before = ranking._CELLS
    ranking._CELLS = cells  # any size of chunk gives the same
    try:
        found = retrieve(images, texts, own)
    finally:
        ranking._CELLS = before
    scores = cosines(texts, images)
    for row, picture in enumerate(own):
        (place,) = plain_positions(scores[row], np.arange(len(images)) == picture)
        assert found.text_to_image.first[row] == place
        assert found.text_to_image.average_precision[row] == pytest.approx(1 / place)
    for row in range(len(images)):
        places = plain_positions(scores[:, row], own == row)
        assert found.image_to_text.first[row] == places[0]
        precision = np.mean([(number + 1) / place for number, place in enumerate(places)])
        assert found.image_to_text.average_precision[row] == pytest.approx(precision)
        for k in (1, 5, 10):
            assert found.image_to_text.precision[k][row] == pytest.approx(sum(place <= k for place in places) / k)


@settings(max_examples=12, deadline=None)
@given(searches())
def test_scores_are_means_inside_their_intervals(search: tuple) -> None:
    found = retrieve(*search)
    scores = retrieval_scores(found)
    assert set(scores) == {
        *(f"text_to_image_{what}" for what in ("r1", "r5", "r10", "map", "median_rank")),
        *(f"image_to_text_{what}" for what in ("r1", "r5", "r10", "map", "median_rank", "p1", "p5", "p10")),
    }
    for name, one in scores.items():
        ranked = found.text_to_image if name.startswith("text") else found.image_to_text
        assert one.metric == name and one.n == len(ranked.first)
        if name.endswith("median_rank"):
            assert one.value == np.median(ranked.first)
            assert ranked.first.min() <= one.low <= one.high <= ranked.first.max()
        else:
            assert one.value == pytest.approx(one.per_item.mean())
            assert 0 <= one.low <= one.high <= 1
    for k in (1, 5, 10):
        assert scores[f"text_to_image_r{k}"].value == np.mean(found.text_to_image.first <= k)


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_a_model_that_says_the_same_of_everything_finds_nothing(noise: float) -> None:
    random = np.random.default_rng(0)
    own = np.arange(200).repeat(5)
    images = np.ones((200, 16)) + noise * random.standard_normal((200, 16))
    texts = np.ones((1000, 16)) + noise * random.standard_normal((1000, 16))
    scores = retrieval_scores(retrieve(images, texts, own))
    chance = {"r1": 1 / 200, "r5": 5 / 200, "r10": 10 / 200}
    for direction in ("text_to_image", "image_to_text"):
        for name, share in chance.items():
            assert scores[f"{direction}_{name}"].value <= share
    assert scores["text_to_image_median_rank"].value == 200
    zeros = retrieve(np.zeros((200, 16)), texts, own)
    assert (zeros.text_to_image.first == 200).all()


def test_equal_pictures_are_ties_too() -> None:
    images = np.eye(3)[[0, 0, 1]]
    found = retrieve(images, images, np.arange(3))
    assert found.text_to_image.first.tolist() == [2, 2, 1] == found.image_to_text.first.tolist()


def test_a_perfect_model_and_random_ones() -> None:
    random = np.random.default_rng(1)
    images = random.standard_normal((300, 32))
    own = np.arange(300).repeat(2)
    perfect = retrieval_scores(retrieve(images, 3 * images[own], own))
    for name, one in perfect.items():
        best = {"image_to_text_p1": 1, "image_to_text_p5": 0.4, "image_to_text_p10": 0.2}.get(name, 1)
        assert one.value == pytest.approx(best) and one.low == pytest.approx(best) == one.high
    texts = random.standard_normal((600, 32))
    chance = retrieval_scores(retrieve(images, texts, own))["text_to_image_r10"]
    assert chance.low <= 10 / 300 <= chance.high


def test_captions_of_one_picture_are_drawn_together() -> None:
    # 20 pictures, half of them found by all of their 50 captions: the interval is that of 20 items, not of 1,000.
    own = np.arange(20).repeat(50)
    images = np.eye(20)
    texts = images[np.where(own < 10, own, (own + 1) % 20)]
    one = retrieval_scores(retrieve(images, texts, own))["text_to_image_r1"]
    assert one.value == 0.5 and one.n == 1000
    assert 0.35 < one.high - one.low < 0.5


def test_the_interval_of_a_median_is_that_of_plain_resampling() -> None:
    from edgekit.evaluate.intervals import bootstrap
    from edgekit.evaluate.retrieval import _median

    random = np.random.default_rng(4)
    ranks, own = random.integers(1, 50, 120), np.sort(np.concatenate([np.arange(40), random.integers(0, 40, 80)]))
    groups = [ranks[own == picture] for picture in range(40)]
    plain = bootstrap(
        40, lambda draws: np.array([np.median(np.concatenate([groups[i] for i in draw])) for draw in draws])
    )
    found = _median("m", ranks, own)
    assert (found.low, found.high) == plain and found.value == np.median(ranks)


def noisy(noise: float, seed: int = 0) -> Retrieval:
    random = np.random.default_rng(9)
    images, own = random.standard_normal((200, 24)), np.arange(200).repeat(3)
    texts = images[own] + 2 * random.standard_normal((600, 24))
    return retrieve(images + noise * np.random.default_rng(seed).standard_normal(images.shape), texts, own)


def test_paired_drops() -> None:
    same = retrieval_drop(noisy(0), noisy(0))
    assert all((drop.value, drop.low, drop.high) == (0, 0, 0) for drop in same.values())
    worse = retrieval_drop(noisy(0), noisy(1.5))
    assert worse["text_to_image_r1"].low > 0 and worse["image_to_text_map"].low > 0
    back = retrieval_drop(noisy(1.5), noisy(0))
    assert back["text_to_image_r5"].value == -worse["text_to_image_r5"].value
    a, b = retrieval_scores(noisy(0.4)), retrieval_scores(noisy(0.5, 1))
    paired = retrieval_drop(noisy(0.4), noisy(0.5, 1))["text_to_image_r1"]
    assert paired.value == pytest.approx(a["text_to_image_r1"].value - b["text_to_image_r1"].value)
    alone = (
        a["text_to_image_r1"].high - a["text_to_image_r1"].low + b["text_to_image_r1"].high - b["text_to_image_r1"].low
    )
    assert paired.high - paired.low < alone  # what both miss cancels
    with pytest.raises(DataError, match="two sets"):
        retrieval_drop(noisy(0), retrieve(np.eye(3), np.eye(3), np.arange(3)))


def test_class_search() -> None:
    images = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.8, 0.3]])
    found = class_search(images, np.array([0, 0, 2, 2]), np.array([[1, 0], [-1, -1], [0, 1]]))
    # class 0 ranks 0, 1, 3, 2; class 2 ranks 2, 3, 1, 0: both are perfect; class 1 has no pictures
    assert found["map"].value == 1 and found["map"].n == 2
    assert found["p1"].value == 1 and found["p5"].value == pytest.approx(2 / 5)
    with pytest.raises(DataError, match="labels"):
        class_search(images, np.array([0, 0, 2, 3]), np.eye(2)[[0, 0, 1]])


def test_what_cannot_be_ranked() -> None:
    eye = np.eye(3)
    with pytest.raises(DataError, match=r"\(n, D\) and \(M, D\)"):
        retrieve(eye, eye[:, :2], np.arange(3))
    with pytest.raises(DataError, match="each of 0 to 2"):
        retrieve(eye, eye[:2], np.array([0, 1]))
    with pytest.raises(DataError, match="2 embeddings"):
        retrieve(eye, eye[:2], np.arange(3))
    with pytest.raises(DataError, match="no relevant item"):
        rank(eye, eye, np.array([0, 1, 2]), np.array([0, 1, 1]))
    with pytest.raises(EngineError, match="NaN"):
        retrieve(eye * np.nan, eye, np.arange(3))


def test_memory_stays_bounded() -> None:
    random = np.random.default_rng(0)
    images = random.standard_normal((1000, 8)).astype(np.float32)
    own = np.arange(1000).repeat(5)
    before = ranking._CELLS
    ranking._CELLS = 50_000
    try:
        tracemalloc.start()
        retrieve(images, images[own], own)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        ranking._CELLS = before
    assert peak < 8e6  # all scores at once would be 20 MB in float32
