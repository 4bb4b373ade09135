"""A tokenizer of CLIP's kind, trained on one's own texts. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from edgekit.errors import InputError

START, END = "<|startoftext|>", "<|endoftext|>"
_SUFFIX = "</w>"  # marks a word's last piece
# Contractions, runs of letters, single digits, runs of other signs (openai/CLIP, simple_tokenizer.py).
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_clip_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE with CLIP's normaliser, words and special tokens, learnt from ``texts`` (Radford et al. 2021).

    At most ``vocab_size`` tokens, at least 514: each byte inside a word and at its end, then merges, then start and
    end, which have the two highest numbers as in CLIP, whose text tower finds the end by the largest id. The file has
    no padding and no truncation; transformers' ``CLIPTokenizerFast(tokenizer_file=...)`` reads it. The same texts in
    the same order give the same tokenizer. Raises ``InputError``.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = 2 * len(alphabet) + 2
    if vocab_size < least:
        raise InputError("vocab_size", found=vocab_size, expected=f"at least {least}: every byte, start and end")
    learner = Tokenizer(models.BPE(end_of_word_suffix=_SUFFIX))
    _words_of(learner)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        initial_alphabet=alphabet,
        end_of_word_suffix=_SUFFIX,
        special_tokens=[letter + _SUFFIX for letter in alphabet],  # whichever bytes the texts have, all are known
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learnt = json.loads(learner.to_str())["model"]
    vocabulary = sorted(learnt["vocab"], key=learnt["vocab"].get)
    ids = {token: number for number, token in enumerate([*vocabulary, START, END])}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=ids,
            merges=[tuple(pair) for pair in learnt["merges"]],
            end_of_word_suffix=_SUFFIX,
            continuing_subword_prefix="",
            unk_token=END,
        )
    )
    _words_of(tokenizer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (START, END)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        sep=(END, ids[END]), cls=(START, ids[START]), add_prefix_space=False, trim_offsets=False
    )
    return tokenizer


def _words_of(tokenizer: Tokenizer) -> None:
    """Gives ``tokenizer`` CLIP's normaliser and pre-tokenizer."""
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
