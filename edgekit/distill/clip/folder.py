"""A dual encoder on disk, with its tokenizer; its embeddings of a set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgekit.distill.clip.config import BertConfig, DualConfig, TextConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.pairs import Pairs
from edgekit.distill.source import read_tokenizer
from edgekit.progress import Progress, Silent, track
from edgekit.runtimes.context import ClipTokenizer

Embeddings = tuple[NDArray[np.float32], NDArray[np.float32]]

_BATCH = 64


def save(model: DualEncoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config.json, model.safetensors and tokenizer.json."""
    model.save(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"))


def load(folder: Path) -> tuple[DualEncoder, Tokenizer]:
    """What :func:`save` wrote, in fp32 and evaluation mode."""
    return DualEncoder.load(folder), read_tokenizer(folder)


def reader(tokenizer: Tokenizer | Path, config: DualConfig) -> ClipTokenizer:
    """How a model of ``config`` reads texts: rows of its context length, filled as it was trained.

    The one rule of training, export and device: the config's ``pad_id``, else the end token, as transformers has it.
    """
    text = config.text
    pad_id = text.pad_id if isinstance(text, TextConfig) else None
    if isinstance(text, BertConfig):
        pad_id = int(text.encoder.get("pad_token_id") or 0)
    return ClipTokenizer(tokenizer, text.context_length, pad_id)


def embed(model: DualEncoder, pairs: Pairs, progress: Progress = Silent(), bf16: bool = False) -> Embeddings:
    """Unit embeddings, float32, of all pictures (P, D) and captions (C, D), in order; (0, D) without a text tower.

    ``bf16``: worked out in bfloat16, for targets of a training that is in it too.
    """
    model.eval()
    device = next(model.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        starts = range(0, len(pairs), _BATCH)
        images = [
            model.encode_images(pairs.images(slice(i, i + _BATCH)).to(device)).float().cpu()
            for i in track(progress, "pictures in torch", starts, len(starts))
        ]
        starts = range(0, len(pairs.ids) if "text" in model.towers else 0, _BATCH)
        texts = [torch.zeros(0, model.config.embed_dim)]
        for i in track(progress, "captions in torch", starts, len(starts)):
            longest = int(pairs.mask[i : i + _BATCH].sum(1).max())
            ids, mask = (torch.from_numpy(array[i : i + _BATCH, :longest]) for array in (pairs.ids, pairs.mask))
            texts.append(model.encode_texts(ids.to(device), mask.to(device)).float().cpu())
    return torch.cat(images).numpy(), torch.cat(texts).numpy()
