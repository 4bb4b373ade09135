"""The dual encoder: an image tower, a text tower and the temperature between them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgekit.distill.clip.config import DualConfig
from edgekit.distill.clip.reparam import reparameterize
from edgekit.distill.clip.text import NoText
from edgekit.distill.clip.towers import ImageTower, TextTower, build_image, build_text
from edgekit.distill.source import read_config
from edgekit.errors import ModelError

MODEL_TYPE = "edgekit-dual-encoder"
MAX_LOGIT_SCALE = math.log(100.0)


def is_dual(folder: Path) -> bool:
    """Whether ``folder`` holds what :meth:`DualEncoder.save` wrote."""
    path = Path(folder) / "config.json"
    return path.is_file() and read_config(Path(folder)).get("model_type") == MODEL_TYPE


class Pair(NamedTuple):
    """A forward pass: unit embeddings (B, D) and (N, D), the factor on their cosines (), SigLIP's bias () or None."""

    image: Tensor
    text: Tensor
    scale: Tensor
    bias: Tensor | None


def normalise(x: Tensor) -> Tensor:
    """Rows (B, D) at unit length; a row of zeros stays so."""
    return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-12)


class DualEncoder(nn.Module):
    """Pictures and texts to embeddings in one space. Radford et al. 2021; the bias is SigLIP's (Zhai et al. 2023).

    The towers themselves do not normalise; everything here does. ``logit_scale`` is the logarithm of the factor on
    cosines; it never exceeds ln 100 (Radford et al. 2021, section 2.5).
    """

    def __init__(self, config: DualConfig, image: ImageTower | None = None, text: TextTower | None = None) -> None:
        super().__init__()
        self._config = config
        self.image = build_image(config.image) if image is None else image
        self.text = build_text(config.text) if text is None else text
        start = math.log(10.0) if config.logit_bias else math.log(1 / 0.07)
        self.logit_scale = nn.Parameter(torch.tensor(start))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if config.logit_bias else None

    @property
    def config(self) -> DualConfig:
        """The config of the towers as they are now, pruned or merged."""
        return replace(self._config, image=self.image.config, text=self.text.config)

    @property
    def towers(self) -> tuple[str, ...]:
        """Names of the towers that there are: image, and text unless the model is for pictures alone."""
        return ("image",) if isinstance(self.text, NoText) else ("image", "text")

    def scale(self) -> Tensor:
        """The factor on cosines, () float32, at most 100. In training the parameter itself is brought back first."""
        if self.training:
            with torch.no_grad():
                self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()

    def encode_images(self, images: Tensor) -> Tensor:
        """float32 (B, 3, S, S) to unit embeddings (B, D)."""
        return normalise(self.image(images))

    def encode_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """int64 ids and mask (N, T) to unit embeddings (N, D)."""
        return normalise(self.text(input_ids, attention_mask))

    def forward(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None) -> Pair:
        """Unit embeddings of B pictures and N texts."""
        texts = self.encode_texts(input_ids, attention_mask)
        return Pair(self.encode_images(images), texts, self.scale(), self.logit_bias)

    def logits(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Scaled cosines (B, N), plus the bias where the model has one."""
        pair = self(images, input_ids, attention_mask)
        scores: Tensor = pair.scale * pair.image @ pair.text.T
        return scores if pair.bias is None else scores + pair.bias

    def merged(self) -> DualEncoder:
        """A copy for export: evaluation mode, branches merged, BatchNorms folded."""
        return reparameterize(self)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors; the tokenizer is the caller's."""
        folder.mkdir(parents=True, exist_ok=True)
        raw = {"model_type": MODEL_TYPE, **self.config.to_dict()}
        (folder / "config.json").write_text(json.dumps(raw, indent=1, sort_keys=True) + "\n", "utf-8")
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, folder: Path) -> DualEncoder:
        """What :meth:`save` wrote, in fp32 and evaluation mode. Raises ModelError naming the file and the field."""
        raw = read_config(folder)
        if raw.pop("model_type", None) != MODEL_TYPE:
            raise ModelError(f"{folder / 'config.json'}: model_type", found="another", expected=MODEL_TYPE)
        path = folder / "model.safetensors"
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(str(path), found=str(error)[:200], expected="readable weights") from None
        model = cls(DualConfig.from_dict(raw))
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise ModelError(str(path), found=str(error)[:300], expected="the tensors of its config.json") from None
        return model.float().eval()
