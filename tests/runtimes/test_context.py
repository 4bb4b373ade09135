"""CLIP's tokens: the ids of transformers' own tokenizer, whatever the text; the end token survives."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import CLIPTokenizerFast

from edgekit.distill.clip_bpe import END, START, train_clip_bpe
from edgekit.errors import BundleError, EdgekitWarning, InputError
from edgekit.runtimes.context import ClipTextPipeline, ClipTokenizer

NOUNS = "cat dog house river mountain child street bicycle umbrella piano photograph lighthouse".split()
CAPTIONS = [
    f"A {size} {noun}'s picture, {count} of them: they're {verb} near the {other}!"
    for size in ("small", "large", "old")
    for noun in NOUNS
    for other in NOUNS
    for count, verb in ((2, "standing"), (17, "playing"))
]


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return train_clip_bpe(CAPTIONS, 600)


@pytest.fixture(scope="module")
def theirs(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizerFast:
    """transformers' tokenizer with our vocabulary, and its own normaliser, words and special tokens."""
    folder = tmp_path_factory.mktemp("vocabulary")
    learnt = json.loads(bpe.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(bpe.get_vocab()))
    merges = "\n".join(" ".join(pair) for pair in learnt["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    return CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))


def test_the_vocabulary_is_of_clips_kind(bpe: Tokenizer) -> None:
    assert bpe.get_vocab_size() == 600
    assert bpe.encode("").ids == [598, 599] == [bpe.token_to_id(START), bpe.token_to_id(END)]
    assert bpe.encode("The CAT's", add_special_tokens=False).tokens == ["the</w>", "cat</w>", "'s</w>"]
    assert train_clip_bpe(iter(CAPTIONS), 600).to_str() == bpe.to_str()
    assert train_clip_bpe(["a"], 514).get_vocab_size() == 514
    with pytest.raises(InputError, match="vocab_size; found 513; expected at least 514"):
        train_clip_bpe(CAPTIONS, 513)


TEXTS = st.one_of(
    st.text(max_size=120),
    st.lists(
        st.sampled_from(
            [*NOUNS, "'S", "'ll", "I'M", "42", "é", "ﬁ", "ǅ", "İ", "日本", "🙂", "\t\n", START, END, "e\u0301"]
        )
    ).map(" ".join),
)


@settings(deadline=None, max_examples=400)
@given(TEXTS)
@example("")
@example("   ")
@example("cat " * 200)
def test_ids_are_those_of_transformers(bpe: Tokenizer, theirs: CLIPTokenizerFast, text: str) -> None:
    expected = theirs([text], padding="max_length", truncation=True, max_length=77, return_tensors="np")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgekitWarning)
        ids, mask = ClipTokenizer(bpe)(text)
    assert ids.dtype == mask.dtype == np.int64
    assert ids.shape == mask.shape == (1, 77)
    np.testing.assert_array_equal(ids, expected["input_ids"])
    np.testing.assert_array_equal(mask, expected["attention_mask"])


def test_real_captions(shared_data: Path) -> None:
    file = shared_data / "image_text" / "flickr8k" / "captions.tsv"
    if not file.is_file():
        pytest.skip(f"no captions at {file}")
    captions = [line.split("\t")[1] for line in file.read_text().splitlines()[1:6000]]
    words = train_clip_bpe(captions[:3000], 3000)
    ids, mask = ClipTokenizer(words)(captions)
    assert (ids.argmax(1) == mask.sum(1) - 1).all(), "the text tower finds the end by the largest id"
    assert (ids[:, 0] == words.token_to_id(START)).all()
    again = words.decode(ids[7][mask[7] == 1].tolist()).replace("</w>", " ")
    assert again.split() == captions[7].lower().split()


def test_padding_and_context_are_parameters(bpe: Tokenizer, tmp_path: Path) -> None:
    bpe.save(str(tmp_path / "tokenizer.json"))
    ids, mask = ClipTokenizer(tmp_path / "tokenizer.json", context=64, pad_id=0)(["a cat", "a dog and a cat"])
    assert ids.shape == (2, 64)
    assert ids[0, :4].tolist() == bpe.encode("a cat").ids
    assert (ids[0, 4:] == 0).all() and mask[0].sum() == 4
    assert ClipTokenizer(bpe)("a cat")[0][0, 4:].tolist() == [599] * 73  # as CLIP in transformers: the end token


def test_a_tokenizer_with_an_end_only(bpe: Tokenizer) -> None:
    from tokenizers.processors import TemplateProcessing

    other = Tokenizer.from_str(bpe.to_str())
    other.post_processor = TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 599)])
    ids, mask = ClipTokenizer(other, context=6, pad_id=1)("cat")
    assert ids[0].tolist() == [bpe.token_to_id("cat</w>"), 599, 1, 1, 1, 1]
    assert mask[0].tolist() == [1, 1, 0, 0, 0, 0]


def test_what_is_too_long_is_cut_with_one_warning(bpe: Tokenizer) -> None:
    ours = ClipTokenizer(bpe, context=8)
    fits, long = "cat " * 6, "cat " * 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours(fits)
    with pytest.warns(EdgekitWarning, match=r"text number 1, 'cat cat.*more than 8 tokens; its end is dropped") as seen:
        ids, mask = ours([fits, long, long])
    assert len(seen) == 1
    np.testing.assert_array_equal(ids[1], ids[0])
    assert ids[2, -1] == 599 and mask.all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours(long)


def test_what_is_too_long_may_be_an_error(bpe: Tokenizer) -> None:
    ours = ClipTokenizer(bpe, context=8, overflow="error")
    ours("cat " * 6)
    with pytest.raises(InputError, match=r"text number 1: 'cat cat.*expected at most 8"):
        ours(["cat", "cat " * 7])


def test_the_callers_tokenizer_is_left_alone(bpe: Tokenizer) -> None:
    before = bpe.to_str()
    ClipTokenizer(bpe, context=5, overflow="truncate")
    assert bpe.to_str() == before
    cut = Tokenizer.from_str(before)
    cut.enable_truncation(4)
    cut.enable_padding(length=9)
    np.testing.assert_array_equal(ClipTokenizer(cut)("a cat and a dog")[0], ClipTokenizer(bpe)("a cat and a dog")[0])


def test_what_cannot_be_used_is_told(bpe: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    bare = Tokenizer.from_str(bpe.to_str())
    bare.post_processor = None
    for given_, error, message in [
        (tmp_path / "bad.json", BundleError, r"bad\.json cannot be read"),
        (tmp_path / "absent.json", BundleError, r"absent\.json cannot be read"),
        (bare, BundleError, "post_processor; found no special tokens"),
    ]:
        with pytest.raises(error, match=message):
            ClipTokenizer(given_)
    with pytest.raises(InputError, match="context; found 2 tokens; expected more than 2"):
        ClipTokenizer(bpe, context=2)
    with pytest.raises(InputError, match="overflow; found 'split'; expected truncate, error"):
        ClipTokenizer(bpe, overflow="split")
    ours = ClipTokenizer(bpe)
    for bad in (None, 3, b"cat", ["cat", None], "\ud800", {"a": 1}):
        with pytest.raises(InputError, match="input"):
            ours(bad)


def test_the_pipeline_goes_in_batches(bpe: Tokenizer) -> None:
    seen: list[int] = []

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        seen.append(len(ids))
        return np.stack([(ids * mask).sum(1), mask.sum(1)], axis=1).astype(np.float32)

    texts = [f"{noun} {n}" for n in range(3) for noun in NOUNS]
    together = ClipTextPipeline(ClipTokenizer(bpe), forward).outputs(texts)
    assert seen == [16, 16, 4]
    seen.clear()
    np.testing.assert_array_equal(ClipTextPipeline(ClipTokenizer(bpe), forward, False).outputs(texts), together)
    assert set(seen) == {1}
    assert ClipTextPipeline(ClipTokenizer(bpe), forward).outputs([]).shape == (0, 2)
