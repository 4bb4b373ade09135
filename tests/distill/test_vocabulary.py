"""A cut vocabulary reads its domain exactly as before, and everything else without loss of characters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from edgekit.distill import folder as folders
from edgekit.distill.encoder import Encoder
from edgekit.distill.source import read_tokenizer
from edgekit.distill.vocabulary import count_pieces, cut_rows, restrict
from edgekit.errors import ModelError
from edgekit.progress import Silent

CORPUS = [
    "a charming and often affecting journey of a small village",
    "unflinchingly bleak and desperate, the film is a chilling tale of a village",
    "allows us to hope that the director is poised to embark on a major career",
    "the acting, costumes, music and cinematography are all astounding for a small film",
    "it's slow, very very slow, and the jokes are a sign of a director at sea",
] * 20
DOMAIN = CORPUS[:2]


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>"
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


KINDS = {"wordpiece": _wordpiece, "bpe": _bpe, "unigram": _unigram}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_domain_text_keeps_its_pieces(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    small, keep = restrict(tokenizer, count_pieces(tokenizer, DOMAIN, Silent()))
    assert small.get_vocab_size() == len(keep) < tokenizer.get_vocab_size()
    for text in DOMAIN:
        before, after = tokenizer.encode(text), small.encode(text)
        assert after.tokens == before.tokens
        assert [keep[i] for i in after.ids] == before.ids


@pytest.mark.parametrize("make", [_wordpiece, _bpe], ids=["wordpiece", "bpe"])
def test_other_words_fall_apart_and_lose_nothing(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    small, _ = restrict(tokenizer, count_pieces(tokenizer, DOMAIN, Silent()))
    encoded = small.encode("cinematography costumes")
    assert "[UNK]" not in encoded.tokens and "<unk>" not in encoded.tokens
    letters = "".join(encoded.tokens).replace("##", "").replace("\u0120", "")
    assert "cinematographycostumes" in letters


def test_special_tokens_move_with_their_rows() -> None:
    tokenizer = _wordpiece()
    small, keep = restrict(tokenizer, count_pieces(tokenizer, DOMAIN, Silent()))
    spec = json.loads(small.to_str())
    assert {t["content"]: t["id"] for t in spec["added_tokens"]}["[SEP]"] == keep.index(3)
    assert small.encode("a film").ids[0] == keep.index(2)


def test_min_count_and_max_size_bound_the_vocabulary() -> None:
    tokenizer = _wordpiece()
    counts = count_pieces(tokenizer, CORPUS, Silent())
    free, _ = restrict(tokenizer, counts)
    bounded, _ = restrict(tokenizer, counts, max_size=80)
    filled, _ = restrict(tokenizer, count_pieces(tokenizer, DOMAIN, Silent()), max_size=80)
    rare, _ = restrict(tokenizer, counts, min_count=41)
    assert bounded.get_vocab_size() == 80 < free.get_vocab_size()
    assert filled.get_vocab_size() == 80  # the domain alone needs fewer: the rest are the tokenizer's first words
    assert rare.get_vocab_size() < free.get_vocab_size()


def test_places_left_go_to_frequent_words_not_to_reserved_ones(minilm: Path) -> None:
    tokenizer = read_tokenizer(minilm)
    small, keep = restrict(tokenizer, count_pieces(tokenizer, DOMAIN, Silent()), max_size=3000)
    assert len(keep) == 3000 == small.get_vocab_size()
    assert {"weather", "money"} <= set(small.get_vocab()) and "[unused5]" not in small.get_vocab()
    assert small.encode("what is the weather like").tokens == tokenizer.encode("what is the weather like").tokens


def test_another_kind_of_tokenizer_is_refused() -> None:
    with pytest.raises(ModelError, match="WordLevel"):
        restrict(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), Counter())


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(codec="latin-1", exclude_categories=("Cc",)), max_size=40))
def test_any_latin_text_is_read_by_minilms_cut_tokenizer(cut_minilm: tuple[Tokenizer, Tokenizer], text: str) -> None:
    """No text that the whole vocabulary can read becomes unknown in the cut one."""
    whole, small = cut_minilm
    assert ("[UNK]" in small.encode(text).tokens) <= ("[UNK]" in whole.encode(text).tokens)


@pytest.fixture(scope="module")
def cut_minilm(minilm: Path) -> tuple[Tokenizer, Tokenizer]:
    whole = read_tokenizer(minilm)
    small, _ = restrict(whole, count_pieces(whole, CORPUS, Silent()))
    return whole, small


def test_answers_to_domain_text_do_not_change(tiny_encoder: Path, tmp_path: Path) -> None:
    encoder, tokenizer = folders.load(tiny_encoder)
    small, keep = restrict(tokenizer, count_pieces(tokenizer, CORPUS, Silent()))
    folders.save(cut_rows(encoder, keep), small, tmp_path)
    cut, reread = folders.load(tmp_path)
    assert isinstance(cut, Encoder) and cut.config.vocab_size == len(keep) < 3000
    with torch.inference_mode():
        for text in CORPUS[:5]:
            old = torch.tensor([tokenizer.encode(text).ids])
            new = torch.tensor([reread.encode(text).ids])
            assert torch.equal(encoder(old, torch.ones_like(old)), cut(new, torch.ones_like(new)))
