"""Both towers of a dual encoder to TFLite."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.text import BertTower
from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.errors import MissingDependencyError
from edgekit.export.dual.inputs import Example
from edgekit.export.dual.onnx import finish, load_merged
from edgekit.export.dual.parity import check_towers
from edgekit.export.dual.towers import IDS, MASK, OUTPUTS, PIXELS
from edgekit.export.litert import FIX, Signatures, convert, converted
from edgekit.export.parity import ExportReport
from edgekit.progress import Progress, Silent
from edgekit.recipe.stages import ExportConfig

IMAGE = "pixels"  # the image tower's signature


def export_dual_litert(
    torch_folder: Path,
    out: Path,
    config: ExportConfig,
    lengths: list[int],
    examples: Sequence[Example],
    progress: Progress = Silent(),
    engine: str = "litert",
) -> ExportReport:
    """Write ``out``/image/model.tflite and text/model.tflite, tokenizer.json, task.json and artifact.json.

    Image: one signature, ``pixel_values`` float32 (1, 3, S, S). Text: of fixed length one signature, ``tokens_77``,
    ``input_ids`` int32 (1, 77); else one a length, those of ``lengths`` up to the context and that one, with
    ``input_ids`` and ``attention_mask``, where what follows the mask may be anything. The same folder and lengths give
    the same bytes. Raises StageError when a file differs from torch by more than ``config`` allows, or cannot be made.
    """
    began = time.perf_counter()
    try:
        from edgekit.export import lengths as at
        from edgekit.export import tflite
    except ImportError as error:
        raise MissingDependencyError("TFLite files cannot be written", found=str(error), fix=FIX) from None
    model = load_merged(torch_folder)
    buckets = text_lengths(model, lengths)
    operators = {}
    progress.say(f"TFLite for {engine}: {' and '.join(model.towers)} tower")
    direct = {"image": _image(model)}
    if "text" in model.towers and not isinstance(model.text, BertTower):
        direct["text"] = _text(model, buckets)
    files = dict(zip(direct, converted(list(direct.values())), strict=True))
    for name in model.towers:
        (out / name).mkdir(parents=True, exist_ok=True)
        path = out / name / "model.tflite"
        if name == "text" and isinstance(model.text, BertTower):
            convert(as_classifier(model.text), buckets, path)
            made = tflite.read(path)
        else:
            made = tflite.read(files[name])
            at.name_graphs(made)
        for signature in made.signatureDefs:
            signature.outputs[0].name = OUTPUTS[name]
        tflite.write(made, path)
        operators[name] = len(made.subgraphs[0].operators)
    finish(model, Path(torch_folder), out, engine, mask=not model.config.text.fixed_length)
    return check_towers(model, out, config, examples, began, {"lengths": buckets, "operators": operators}, progress)


def text_lengths(model: DualEncoder, lengths: list[int]) -> list[int]:
    """The lengths that the text tower's file is for."""
    text = model.config.text
    shorter = set() if text.fixed_length else {n for n in lengths if n < text.context_length}
    return sorted(shorter | {text.context_length})


def _image(model: DualEncoder) -> tuple[nn.Module, Signatures]:
    side = model.config.image.image_size
    return _Named(model.image), {IMAGE: {PIXELS: torch.zeros(1, 3, side, side)}}


def _text(model: DualEncoder, lengths: list[int]) -> tuple[nn.Module, Signatures]:
    names = (IDS,) if model.config.text.fixed_length else (IDS, MASK)
    given = {f"tokens_{n}": {name: torch.ones((1, n), dtype=torch.int32) for name in names} for n in lengths}
    return _Masked(model.text), given


class _Named(nn.Module):
    """An image tower whose input goes by the name that engines know."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower.eval()

    def forward(self, pixel_values: Tensor) -> Tensor:
        found: Tensor = self.tower(pixel_values)
        return found


class _Masked(nn.Module):
    """A causal text tower that takes ids of any kind behind the mask's end, or one of fixed length without a mask."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        found: Tensor = self.tower(input_ids if attention_mask is None else input_ids * attention_mask)
        return found


def as_classifier(tower: BertTower) -> Encoder:
    """The same function as an encoder whose classifier is the projection: what is known of encoders then applies."""
    shape = {**tower.encoder.config.to_diff_dict(), "task": "classify", "max_tokens": tower.config.context_length}
    shape["labels"] = [str(i) for i in range(tower.config.embed_dim)]
    shape["max_positions"] = len(tower.encoder.position.weight)
    encoder = Encoder(EncoderConfig(**{k: v for k, v in shape.items() if k != "transformers_version"}))
    encoder.load_state_dict(tower.encoder.state_dict(), strict=False)
    assert encoder.classifier is not None
    encoder.classifier.weight = nn.Parameter(tower.projection.weight.detach().clone())
    nn.init.zeros_(encoder.classifier.bias)
    return encoder.eval()
