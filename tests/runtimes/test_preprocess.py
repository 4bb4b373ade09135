"""Windows never lose a token, and words find their pieces."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edgekit.bundle import TaskSpec
from edgekit.errors import BundleError, InputError
from edgekit.runtimes.pipeline import TextPipeline
from edgekit.runtimes.preprocess import BATCH_PAIRS, BATCH_TOKENS, TextPreprocessor, as_texts

TEXT = st.text(st.characters(codec="utf-8"), max_size=400)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def tokenizer(minilm: Path) -> Tokenizer:
    plain = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    plain.no_truncation()
    plain.no_padding()
    return plain


@pytest.mark.slow
@RELAXED
@given(text=TEXT, length=st.integers(6, 40), share=st.floats(0, 0.5))
def test_windows_cover_every_token_with_the_stated_overlap(
    minilm: Path, tokenizer: Tokenizer, text: str, length: int, share: float
) -> None:
    stride = int((length - 3) * share)
    pre = TextPreprocessor(minilm / "tokenizer.json", TaskSpec("embed", [], length, stride))
    whole = tokenizer.encode(text).ids
    windows = pre.windows([text])
    assert all(len(w.ids) <= length for w in windows)
    assert all(w.ids[0] == whole[0] and w.ids[-1] == whole[-1] for w in windows)
    rebuilt: list[int] = []
    for w in windows:
        assert w.first <= len(rebuilt)  # no hole
        assert rebuilt[w.first :] == w.ids[1:-1][: len(rebuilt) - w.first]
        rebuilt = rebuilt[: w.first] + w.ids[1:-1]
    assert rebuilt == whole[1:-1]
    for before, after in itertools.pairwise(windows):
        assert before.first + before.tokens - after.first == stride


@pytest.mark.slow
@RELAXED
@given(text=TEXT)
def test_words_point_at_the_first_piece(minilm: Path, tokenizer: Tokenizer, text: str) -> None:
    pre = TextPreprocessor(minilm / "tokenizer.json", TaskSpec("tag", ["O"], 32, 8))
    _, (words,) = pre.windows_and_words([text])
    offsets = tokenizer.encode(text, add_special_tokens=False).offsets
    assert [text[a:b] for a, b in words.spans] == text.split()
    for (start, end), token in zip(words.spans, words.tokens, strict=True):
        inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
        assert token == (inside[0] if inside else -1)


def test_truncation_and_padding_of_the_file_are_ignored(minilm: Path) -> None:
    assert json.loads((minilm / "tokenizer.json").read_bytes())["truncation"]  # else this would show nothing
    pre = TextPreprocessor(minilm / "tokenizer.json", TaskSpec("embed", [], 512, 64))
    assert len(pre.windows(["word " * 400])[0].ids) == 402
    assert len(pre.windows(["word"])[0].ids) == 3


def test_batches_are_bounded_sorted_and_padded(minilm: Path) -> None:
    pre = TextPreprocessor(minilm / "tokenizer.json", TaskSpec("embed", [], 128, 32, pad_id=7))
    windows = pre.windows(["word " * (n % 120) for n in range(300)])
    batches = list(pre.batches(windows))
    assert sorted(row for b in batches for row in b.rows) == list(range(300))
    for b in batches:
        assert b.ids.dtype == b.mask.dtype == np.int64
        assert b.ids.size <= BATCH_TOKENS
        assert b.ids.shape[0] * b.ids.shape[1] ** 2 <= BATCH_PAIRS
        for row, ids, mask in zip(b.rows, b.ids, b.mask, strict=True):
            n = len(windows[row].ids)
            assert ids[:n].tolist() == windows[row].ids
            assert (ids[n:] == 7).all()
            assert mask.tolist() == [1] * n + [0] * (len(ids) - n)
    assert all(b.ids.shape[0] == 1 and b.mask.all() for b in pre.batches(windows, batching=False))


def test_parallel_tokenizing_gives_the_same(minilm: Path) -> None:
    spec, texts = TaskSpec("embed", [], 32, 8), ["a b c " * n for n in range(50)]
    one, two = (TextPreprocessor(minilm / "tokenizer.json", spec, threads).windows(texts) for threads in (1, 2))
    assert one == two


def test_no_room_to_advance_is_an_error(minilm: Path) -> None:
    with pytest.raises(InputError, match="no room"):
        TextPreprocessor(minilm / "tokenizer.json", TaskSpec("embed", [], 4, 2))


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe", b'{"model": {"type": "WordPiece"}}'])
def test_a_bad_tokenizer_names_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        TextPreprocessor(tmp_path / "tokenizer.json", TaskSpec("embed", [], 32, 8))


@pytest.mark.parametrize("bad", [None, 3, float("nan"), b"bytes", {"a": 1}])
def test_what_is_not_text_is_refused(bad: object) -> None:
    with pytest.raises(InputError, match="input"):
        as_texts(bad)


@pytest.mark.parametrize("bad", [None, 3, float("nan"), b"bytes", ["nested"]])
def test_the_place_of_what_is_not_text_is_named(bad: object) -> None:
    with pytest.raises(InputError, match="input number 1"):
        as_texts(["fine", bad])


def test_texts_may_come_in_many_ways() -> None:
    assert as_texts("one") == ["one"]
    assert as_texts(("a", "b")) == as_texts(np.array(["a", "b"])) == as_texts(x for x in "ab") == ["a", "b"]


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_an_engine_that_dislikes_new_lengths_sees_few_and_answers_the_same(minilm: Path, task: str) -> None:
    """The stand-in for an engine sums what it is given, padding left out: a wrong mask or crop would show."""
    seen = []

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        seen.append(ids.shape[1])
        assert (ids[mask == 0] == 7).all()
        rows = np.stack([ids * mask, mask], axis=-1).astype(np.float32)
        return rows if task == "tag" else rows.sum(1)

    pre = TextPreprocessor(minilm / "tokenizer.json", TaskSpec(task, ["a", "b"], 40, 8, pad_id=7))
    texts = ["a", "two words", "a text of some more words than that", "many words " * 40, "x " * 30]
    plain = TextPipeline(pre, forward)
    expected = [plain.outputs([text]) for text in texts], plain.outputs(texts)
    seen.clear()
    padded = TextPipeline(pre, forward, length_step=16)
    found = [padded.outputs([text]) for text in texts], padded.outputs(texts)
    assert set(seen) <= {16, 32, 40} and len(set(seen)) > 1
    for ours, theirs in zip([*found[0], found[1]], [*expected[0], expected[1]], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
