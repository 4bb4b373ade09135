"""Dual encoders in torch as the teachers of a reinforced set: pixels and texts in, unit embeddings out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from edgekit.distill.clip.dual import DualEncoder, is_dual
from edgekit.distill.clip.folder import reader
from edgekit.distill.clip.huggingface import import_dual
from edgekit.distill.clip.openclip import import_open_clip, load_open_clip
from edgekit.distill.source import read_tokenizer, resolve, sha256_file, weights_file

OPEN_CLIP = "open_clip:"


@dataclass(frozen=True)
class LiveTeacher:
    """What :class:`edgekit.data.reinforced.Teacher` asks for. ``size``: pixels a side that the model takes."""

    name: str
    sha256: str
    size: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: Callable[[Tensor], Tensor]
    texts: Callable[[list[str]], Tensor]

    def embed_images(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (B, S, S, 3) RGB to unit embeddings (B, D); pictures of another size than its own are resized."""
        if batch.shape[1] != self.size:
            side = (self.size, self.size)
            batch = np.stack([np.asarray(Image.fromarray(one).resize(side, Image.Resampling.BICUBIC)) for one in batch])
        pixels = torch.from_numpy(np.array(batch)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        with torch.inference_mode():
            found: NDArray[np.float32] = self.images((pixels - mean) / std).float().numpy()
        return found

    def embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """n texts to unit embeddings (n, D)."""
        with torch.inference_mode():
            found: NDArray[np.float32] = self.texts(texts).float().numpy()
        return found


def open_teacher(ref: str) -> LiveTeacher:
    """The dual encoder that ``ref`` names, in fp32 on the CPU.

    A folder that edgekit wrote; a Hugging Face CLIPModel or SiglipModel, by folder or hub id; or
    ``open_clip:NAME[/PRETRAINED]``, PRETRAINED being one of its tags or a file. Raises ModelError,
    MissingDependencyError.
    """
    if ref.startswith(OPEN_CLIP):
        return _open_clip(ref)
    folder = resolve(ref)
    model = (DualEncoder.load(folder) if is_dual(folder) else import_dual(ref)).merged()
    read = reader(read_tokenizer(folder), model.config)

    def texts(given: list[str]) -> Tensor:
        ids, mask = (torch.from_numpy(array) for array in read(given))
        return model.encode_texts(ids, mask)

    return LiveTeacher(
        name=folder.resolve().name if Path(ref).expanduser().is_dir() else ref,
        sha256=sha256_file(weights_file(folder)),
        size=model.config.image.image_size,
        scale=float(model.scale().detach()),
        mean=model.config.mean,
        std=model.config.std,
        images=model.encode_images,
        texts=texts,
    )


def _open_clip(ref: str) -> LiveTeacher:
    name, _, pretrained = ref.removeprefix(OPEN_CLIP).partition("/")
    model = load_open_clip(name, pretrained or None)
    tokenize = import_open_clip().get_tokenizer(name)
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return LiveTeacher(
        name=ref,
        sha256=digest.hexdigest(),
        size=model.config.image_size,
        scale=float(model.scale().detach()),
        mean=model.config.mean,
        std=model.config.std,
        images=model.encode_images,
        texts=lambda given: model.encode_texts(tokenize(given)),
    )
