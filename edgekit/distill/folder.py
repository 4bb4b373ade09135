"""A torch model on disk: config.json, model.safetensors and tokenizer.json, the form that stages hand on."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from edgekit.distill.encoder import Encoder
from edgekit.distill.source import read_tokenizer, sha256_file


def save(encoder: Encoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``encoder`` and ``tokenizer`` so that :func:`load` and ``Encoder.from_pretrained`` read them back."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder.float().cpu().save_pretrained(folder, safe_serialization=True)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"))


def load(folder: Path) -> tuple[Encoder, Tokenizer]:
    """What :func:`save` wrote, in fp32 and evaluation mode."""
    encoder = Encoder.from_pretrained(folder)
    return encoder.eval(), read_tokenizer(folder)


def weights_sha256(folder: Path) -> str:
    """sha256 of the weights in ``folder``."""
    return sha256_file(folder / "model.safetensors")
