"""A dual encoder's torch folder as a predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from edgekit.data import HeldOut, PictureTextSet
from edgekit.distill.clip.folder import embed, load, reader
from edgekit.distill.clip.pairs import image_spec, make_pairs
from edgekit.evaluate.dual import answered
from edgekit.evaluate.outputs import Outputs
from edgekit.evaluate.predictors import set_threads
from edgekit.progress import Progress, Silent
from edgekit.runtimes.threads import usable_cpus
from edgekit.runtimes.vision import ImagePreprocessor


class TorchDualPredictor:
    """config.json, model.safetensors, tokenizer.json in torch, fp32, on the CPU; branches merged, as they are exported.

    ``threads`` is what :meth:`answer` runs with; :meth:`predict` uses every usable processor. Raises ModelError.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.folder, self.threads = Path(folder), threads
        model, tokenizer = load(self.folder)
        self.model = model.merged()
        self._tokenizer: Tokenizer = tokenizer
        self._read = reader(tokenizer, model.config)
        self._preprocessor = ImagePreprocessor(image_spec(model.config))

    @property
    def size_bytes(self) -> int:
        """Bytes of the folder's files."""
        return sum((self.folder / n).stat().st_size for n in ("config.json", "model.safetensors", "tokenizer.json"))

    def predict(self, data: HeldOut, progress: Progress = Silent()) -> Outputs:
        """Unit embeddings of all pictures (P, D) and all captions (C, D)."""
        assert isinstance(data, PictureTextSet), "a dual encoder"
        set_threads(usable_cpus())
        return answered(*embed(self.model, make_pairs(data, self.model.config, self._read), progress), data)

    def answer(self, example: Any) -> Any:
        """``example``: a picture, uint8 (H, W, 3), and a caption; embeds both, or the picture alone for None."""
        set_threads(self.threads)
        picture, caption = example
        pixels = torch.from_numpy(self._preprocessor(picture))
        if caption is None or "text" not in self.model.towers:
            with torch.inference_mode():
                return (self.model.encode_images(pixels),)
        ids, mask = (torch.from_numpy(array) for array in self._read([caption]))
        count = ids.shape[1] if self.model.config.text.fixed_length else int(mask.sum())
        with torch.inference_mode():
            return self.model.encode_images(pixels), self.model.encode_texts(ids[:, :count], mask[:, :count])
