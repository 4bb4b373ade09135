"""Cut the vocabulary to what a domain needs: fewer rows in the embedding table, a tokenizer rewritten to match.

Text made of kept pieces is tokenized exactly as before. A word whose piece was removed falls apart into smaller
pieces: single printable Latin-1 characters always stay, so it can.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from edgekit.data import Splits
from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.distill.folder import load, save
from edgekit.errors import DataError, ModelError
from edgekit.progress import Progress
from edgekit.recipe import Recipe

_CHUNK = 2000


def shrink_vocabulary(recipe: Recipe, splits: Splits, source: Path, out: Path, progress: Progress) -> dict[str, Any]:
    """Write the model in ``source`` without the pieces that the training text never uses. Returns what was kept."""
    config = recipe.stages.vocabulary
    encoder, tokenizer = load(source)
    texts = [*splits.train.texts, *(splits.train.pairs or []), *extra_texts(config.extra_text)]
    counts = count_pieces(tokenizer, texts, progress)
    small, keep = restrict(tokenizer, counts, config.min_count, config.max_size)
    before = encoder.config.vocab_size
    save(cut_rows(encoder, keep), small, out)
    unseen = splits.validation.texts
    return {
        "pieces_before": before,
        "pieces_after": len(keep),
        "min_count": config.min_count,
        "counted_texts": len(texts),
        "validation_texts_tokenized_as_before": unchanged(tokenizer, small, keep, unseen),
    }


def extra_texts(files: Iterable[str]) -> list[str]:
    """The lines of the recipe's ``extra_text``. Raises DataError for a file that is not UTF-8 text."""
    lines: list[str] = []
    for name in files:
        try:
            lines += Path(name).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"stages.vocabulary.extra_text: {name}", found=str(error), expected="a UTF-8 file"
            ) from None
    return lines


def count_pieces(tokenizer: Tokenizer, texts: list[str], progress: Progress) -> Counter[int]:
    """How often each piece id occurs in ``texts``."""
    counts: Counter[int] = Counter()
    bar = progress.start("count pieces", len(texts))
    for start in range(0, len(texts), _CHUNK):
        part = texts[start : start + _CHUNK]
        for encoding in tokenizer.encode_batch(part):
            counts.update(encoding.ids)
        progress.advance(bar, len(part))
    progress.finish(bar)
    return counts


def restrict(
    tokenizer: Tokenizer,
    counts: Counter[int],
    min_count: int = 1,
    max_size: int | None = None,
    needed: Iterable[int] = (),
) -> tuple[Tokenizer, list[int]]:
    """A tokenizer of the pieces worth keeping, and their old ids in new order.

    Kept are the pieces with ``min_count`` in ``counts``, the most frequent first, at most ``max_size``. Places that
    are left of ``max_size`` go to the tokenizer's first words: vocabularies are written in order of frequency, and a
    small data set does not show all the words that its domain uses. ``needed``: ids that stay whatever was counted.
    Handles WordPiece, BPE and Unigram; raises ModelError for other kinds.
    """
    spec: dict[str, Any] = json.loads(tokenizer.to_str())
    model = spec["model"]
    kind = str(model.get("type", ""))
    pieces = _pieces(model, kind)
    always = {int(t["id"]) for t in spec.get("added_tokens", [])} | _named(spec, pieces) | set(needed)
    always |= {i for piece, i in pieces.items() if _is_character(piece, model)}
    ranked = [i for i, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= min_count]
    if max_size is not None:
        ranked += [i for piece, i in sorted(pieces.items(), key=lambda item: item[1]) if _is_word(piece)]
    room = None if max_size is None else max(0, max_size - len(always))
    keep = always | set([i for i in dict.fromkeys(ranked) if i not in always][:room])
    if kind == "BPE":
        keep = _with_parts(keep, model, pieces)
    order = sorted(keep)
    _rewrite(spec, kind, {old: new for new, old in enumerate(order)})
    return Tokenizer.from_str(json.dumps(spec, ensure_ascii=False)), order


def _pieces(model: dict[str, Any], kind: str) -> dict[str, int]:
    if kind in ("WordPiece", "BPE"):
        return dict(model["vocab"])
    if kind == "Unigram":
        return {piece: i for i, (piece, _) in enumerate(model["vocab"])}
    raise ModelError("tokenizer.json: model.type", found=kind or "none", expected="WordPiece, BPE or Unigram")


def _is_character(piece: str, model: dict[str, Any]) -> bool:
    """A single printable Latin-1 character, a byte of a byte-level alphabet, or such a one inside or ending a word."""
    if len(piece) == 6 and piece.startswith("<0x"):
        return True
    if model.get("type") == "BPE":
        return len(piece.removesuffix(model.get("end_of_word_suffix") or "")) == 1
    bare = piece.removeprefix(model.get("continuing_subword_prefix") or "##").removeprefix("\u2581")
    return len(bare) == 1 and ord(bare) < 256 and bare.isprintable()


def _is_word(piece: str) -> bool:
    """Neither a reserved place such as [unused7] nor a single character."""
    return len(piece.removeprefix("##")) > 1 and not (piece.startswith(("[", "<")) and piece.endswith(("]", ">")))


def _named(spec: dict[str, Any], pieces: dict[str, int]) -> set[int]:
    """Pieces that the tokenizer itself refers to: unknown, and what the post-processor adds."""
    model, found = spec["model"], set()
    if isinstance(model.get("unk_token"), str) and model["unk_token"] in pieces:
        found.add(pieces[model["unk_token"]])
    if isinstance(model.get("unk_id"), int):
        found.add(model["unk_id"])
    post = spec.get("post_processor") or {}
    for part in [post, *post.get("processors", [])]:
        for token in (part.get("special_tokens") or {}).values():
            found |= set(token["ids"])
        found |= {part[end][1] for end in ("cls", "sep") if isinstance(part.get(end), list)}
    return found


def _merge(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _with_parts(keep: set[int], model: dict[str, Any], pieces: dict[str, int]) -> set[int]:
    """BPE builds a piece from two others, perhaps in several ways: keep all of those too, all the way down."""
    parts: dict[str, list[str]] = {}
    for left, right in map(_merge, model["merges"]):
        parts.setdefault(left + right, []).extend((left, right))
    names = {i: piece for piece, i in pieces.items()}
    todo, kept = [names[i] for i in keep if i in names], set(keep)
    while todo:
        for part in parts.get(todo.pop(), ()):
            if pieces[part] not in kept:
                kept.add(pieces[part])
                todo.append(part)
    return kept


def _rewrite(spec: dict[str, Any], kind: str, new: dict[int, int]) -> None:
    model = spec["model"]
    if kind == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new]
        if isinstance(model.get("unk_id"), int):
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {piece: new[i] for piece, i in model["vocab"].items() if i in new}
    if kind == "BPE":
        kept = model["vocab"]
        model["merges"] = [m for m in model["merges"] if all(p in kept for p in (*_merge(m), "".join(_merge(m))))]
    for token in spec.get("added_tokens", []):
        token["id"] = new[token["id"]]
    post = spec.get("post_processor") or {}
    for part in [post, *post.get("processors", [])]:
        for token in (part.get("special_tokens") or {}).values():
            token["ids"] = [new[i] for i in token["ids"]]
        for end in ("cls", "sep"):
            if isinstance(part.get(end), list):
                part[end][1] = new[part[end][1]]
    if spec.get("padding"):
        spec["padding"]["pad_id"] = new.get(spec["padding"]["pad_id"], 0)


def cut_rows(encoder: Encoder, keep: list[int]) -> Encoder:
    """``encoder`` with the rows ``keep`` of its word table, in that order."""
    config = EncoderConfig.from_dict(encoder.config.to_dict())
    config.vocab_size = len(keep)
    config.pad_token_id = keep.index(encoder.config.pad_token_id) if encoder.config.pad_token_id in keep else 0
    small = Encoder(config)
    state = dict(encoder.state_dict())
    state["word.weight"] = state["word.weight"][torch.tensor(keep)]
    small.load_state_dict(state)
    return small


def unchanged(before: Tokenizer, after: Tokenizer, keep: list[int], texts: list[str]) -> float:
    """Share of texts that both tokenizers cut into the same pieces."""
    old = before.encode_batch(texts)
    new = after.encode_batch(texts)
    same = [[keep[i] for i in b.ids] == a.ids for a, b in zip(old, new, strict=True)]
    return float(np.mean(same)) if same else 1.0
