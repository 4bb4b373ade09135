"""Any open_clip model as a teacher. open_clip is imported inside a function: nothing else of edgekit needs it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.distill.clip.dual import normalise
from edgekit.errors import MissingDependencyError, ModelError


@dataclass(frozen=True)
class OpenClipConfig:
    """What an open_clip model wants and gives. A pixel in 0..1 becomes (pixel - mean) / std."""

    name: str
    embed_dim: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    context_length: int


class OpenClip(nn.Module):
    """An open_clip model with the methods of :class:`DualEncoder` that a teacher needs."""

    def __init__(self, model: nn.Module, config: OpenClipConfig) -> None:
        super().__init__()
        self.model: Any = model
        self.config = config

    def encode_images(self, images: Tensor) -> Tensor:
        """float32 (B, 3, S, S) to unit embeddings (B, D)."""
        return normalise(self.model.encode_image(images).float())

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """int64 ids (N, context_length) to unit embeddings (N, D); the mask is not looked at."""
        return normalise(self.model.encode_text(input_ids).float())

    def scale(self) -> Tensor:
        """The factor on cosines, () float32."""
        factor: Tensor = self.model.logit_scale.float().exp()
        return factor


def load_open_clip(name: str, pretrained: str | None = None) -> OpenClip:
    """The model ``name`` of open_clip with the weights ``pretrained`` (a tag or a file), in evaluation mode.

    Without ``pretrained`` its weights are random. Raises MissingDependencyError when open_clip cannot be imported,
    ModelError when it does not know the model or the weights.
    """
    open_clip = import_open_clip()
    try:
        model = open_clip.create_model(name, pretrained=pretrained)
    except Exception as error:  # unknown names, missing files and failed downloads are of many kinds
        raise ModelError(
            f"open_clip model {name}, {pretrained}",
            found=str(error)[:200],
            expected="one of open_clip.list_pretrained()",
        ) from None
    return OpenClip(model, _config(name, model)).eval()


def import_open_clip() -> Any:
    """The module open_clip. Raises MissingDependencyError."""
    try:
        return importlib.import_module("open_clip")
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        raise MissingDependencyError(
            "open_clip",
            found=str(error)[:120],
            fix="pip install 'edgekit[clip]', with a torchvision that was built for the torch in use.",
        ) from None


def _config(name: str, model: Any) -> OpenClipConfig:
    visual = model.visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple | list) else visual.image_size
    with torch.inference_mode():
        embed_dim = model.eval().encode_image(torch.zeros(1, 3, size, size)).shape[-1]
    context = getattr(model, "context_length", None) or model.text.context_length
    return OpenClipConfig(name, embed_dim, size, tuple(visual.image_mean), tuple(visual.image_std), int(context))
