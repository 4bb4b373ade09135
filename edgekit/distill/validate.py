"""Validation while training: the task's own metric on the validation part, with the model as it stands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgekit.data import TextSet
from edgekit.distill.batches import IGNORED, Tokens, by_length, collate, tokenize
from edgekit.distill.encoder import Encoder
from edgekit.evaluate import score
from edgekit.evaluate.outputs import Outputs


def outputs(encoder: Encoder, tokens: Tokens) -> Outputs:
    """fp32 answers to every text, in order: (n, C), or for tag a list of (words, C)."""
    encoder.eval()
    device = next(encoder.parameters()).device
    rows: list[NDArray[np.float32]] = [np.zeros((0,), np.float32)] * len(tokens)
    with torch.inference_mode():
        for index in by_length(tokens, 64):
            batch = collate(tokens, index).to(device)
            answer = encoder(batch.input_ids, batch.attention_mask).float().cpu().numpy()
            for row, i in enumerate(index):
                rows[int(i)] = answer[row]
    if tokens.token_labels is None:
        return np.stack(rows)
    labelled = [tokens.token_labels[tokens.rows(i)] != IGNORED for i in range(len(tokens))]
    return [row[: len(known)][known] for row, known in zip(rows, labelled, strict=True)]


def validator(
    tokenizer: Tokenizer, data: TextSet, encoder: Encoder, teacher: Encoder | None = None
) -> Callable[[Encoder], float]:
    """A function that scores an encoder on ``data``; higher is better.

    Texts are cut at max_length here: this only picks the best epoch; gates and reports read long texts whole.
    For embed without pairs, ``teacher`` is what the cosine is taken against.
    """
    config = encoder.config
    tokens = tokenize(tokenizer, data, config.max_tokens, config.pad_token_id)
    if config.task == "tag" and tokens.token_labels is not None and data.tags is not None:
        kept = [int((tokens.token_labels[tokens.rows(i)] != IGNORED).sum()) for i in range(len(tokens))]
        data = TextSet(texts=data.texts, tags=[tags[:n] for tags, n in zip(data.tags, kept, strict=True)])
    if data.pairs is not None:
        second = tokenize(tokenizer, TextSet(texts=data.pairs), config.max_tokens, config.pad_token_id)
        return lambda model: score("embed", (outputs(model, tokens), outputs(model, second)), data).value  # type: ignore[arg-type]
    reference = outputs(teacher, tokens) if config.task == "embed" and teacher is not None else None
    return lambda model: score(config.task, outputs(model, tokens), data, teacher=reference).value
