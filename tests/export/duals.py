"""Small dual encoders of every kind of tower, with a tokenizer of their own, as torch folders."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn

from edgekit.distill.clip.config import DualConfig
from edgekit.distill.clip.dual import DualEncoder
from edgekit.export import ExportReport
from edgekit.export.litert import export_litert
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes.vision import ImagePreprocessor, ImageSpec
from tests.distill.clip import helpers
from tests.sharing import once

WORDS = "a photo of the red green blue dog cat runs on grass two children play with ball in snow".split()
Example = tuple[np.ndarray, str]


def tokenizer() -> Tokenizer:
    """Words as ids, start 118, end 119: the highest, as CLIP's text tower expects."""
    names = [*WORDS, *(f"w{i}" for i in range(helpers.WORDS - 2 - len(WORDS))), "<start>", "<end>"]
    made = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="w0"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", helpers.WORDS - 2), ("<end>", helpers.WORDS - 1)]
    )
    return made


def dual(image: str = "mci", text: str = "clip", seed: int = 0) -> DualEncoder:
    torch.manual_seed(seed)
    model = DualEncoder(DualConfig(helpers.IMAGES[image], helpers.TEXTS[text]))
    helpers.lived(model, seed)
    _settle(model)
    return model.eval()


def _settle(model: DualEncoder) -> None:
    """Statistics of real pictures in every BatchNorm, so that the embeddings tell pictures apart."""
    prepare = ImagePreprocessor(ImageSpec(size=helpers.SIDE))
    pixels = torch.from_numpy(prepare([picture for picture, _ in examples(32, seed=77)]))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.image.train()(pixels)


def saved(folder: Path, image: str = "mci", text: str = "clip") -> Path:
    dual(image, text).save(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def litert(folders: pytest.TempPathFactory, image: str, text: str) -> tuple[Path, ExportReport]:
    """A folder with ``saved`` in torch and its TFLite files of lengths 8 and 32 in lite, and what their export said.

    Made once in a run, since that takes many seconds. Shared: do not write to it.
    """

    def make(folder: Path) -> None:
        source = saved(folder / "torch", image, text)
        report = export_litert(source, folder / "lite", ExportConfig(), [8, 32], examples(4))
        (folder / "report.json").write_text(json.dumps(asdict(report)))

    work = once(folders, f"dual-tflite-{image}-{text}", make)
    return work, ExportReport(**json.loads((work / "report.json").read_text()))


def examples(count: int = 5, seed: int = 3) -> list[Example]:
    """Smooth pictures of other shapes, and captions of other lengths."""
    random = np.random.default_rng(seed)
    made = []
    for i in range(count):
        height, width = 40 + 13 * (i % 4), 90 - 9 * (i % 5)
        rows, columns = np.mgrid[0:height, 0:width] / 30
        waves = [np.sin(rows * random.normal() + columns * random.normal() + random.normal()) for _ in range(3)]
        picture = (127 + 120 * np.stack(waves, -1)).astype(np.uint8)
        made.append((picture, " ".join(random.choice(WORDS, 1 + i % 12))))
    return made
