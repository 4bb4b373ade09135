"""Both towers of a dual encoder to ONNX."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from edgekit.distill.clip.dual import DualEncoder
from edgekit.distill.clip.text import BertTower
from edgekit.export.dual.inputs import Example, spec_of
from edgekit.export.dual.parity import check_towers
from edgekit.export.dual.towers import IDS, MASK, OUTPUTS, PIXELS, Feed
from edgekit.export.fold import fixed_shapes, pads_into_convolutions
from edgekit.export.graph import Graph, save
from edgekit.export.parity import ExportReport
from edgekit.export.simplify import simplify
from edgekit.progress import Progress, Silent
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact


def export_dual_onnx(
    torch_folder: Path, out: Path, config: ExportConfig, examples: Sequence[Example], progress: Progress = Silent()
) -> ExportReport:
    """Write ``out``/image/model.onnx and text/model.onnx, tokenizer.json, task.json and artifact.json.

    Both towers merged. Image: ``pixel_values`` float32 (batch, 3, S, S) to ``image_embeddings`` float32 (batch, D).
    Text: ``input_ids`` int64 (batch, length), and for a BERT ``attention_mask`` too, to ``text_embeddings``. Batch and
    length are dynamic, but for a text tower of fixed length. Nothing is normalised. The same folder gives the same
    bytes. Raises StageError when a file differs from torch by more than ``config`` allows, or fails at some shape.
    """
    began = time.perf_counter()
    model = load_merged(torch_folder)
    nodes = {}
    for name in model.towers:
        progress.say(f"ONNX: {name} tower")
        traced = trace_tower(model, name, config.opset)
        nodes[name] = len(traced.graph.node)
        (out / name).mkdir(parents=True, exist_ok=True)
        save(traced, out / name / "model.onnx")
    details = {"opset": config.opset, "nodes": nodes}
    finish(model, Path(torch_folder), out, "onnxruntime")
    return check_towers(model, out, config, examples, began, details, progress)


def load_merged(torch_folder: Path) -> DualEncoder:
    """The model in ``torch_folder``, merged, without positions that no text reaches."""
    model = DualEncoder.load(Path(torch_folder)).merged()
    if isinstance(model.text, BertTower):
        table = model.text.encoder.position
        table.weight = nn.Parameter(table.weight[: model.text.config.context_length].detach().clone())
    return model


def finish(model: DualEncoder, torch_folder: Path, out: Path, engine: str, mask: bool = False) -> None:
    """All of an fp32 artifact but the towers' own files. ``mask``: the text tower takes one, whatever its kind."""
    shutil.copyfile(torch_folder / "tokenizer.json", out / "tokenizer.json")
    inputs = {"image": (PIXELS,), "text": text_inputs(model, mask)}
    made = {name: {"precision": "fp32", "inputs": list(inputs[name]), "output": OUTPUTS[name]} for name in model.towers}
    artifact.write(out, spec_of(model, out / "tokenizer.json"), engine, "fp32", made)


def text_inputs(model: DualEncoder, mask: bool = False) -> tuple[str, ...]:
    """Of the text tower: only a BERT looks at the mask."""
    return (IDS, MASK) if mask or isinstance(model.text, BertTower) else (IDS,)


def trace_tower(model: DualEncoder, name: str, opset: int = 17) -> onnx.ModelProto:
    """Tower ``name`` of merged ``model`` as a plain ONNX model; ``model`` itself stays as it was."""
    tower: nn.Module = model.image if name == "image" else model.text
    feeds = sample_feeds(model, name)
    names = list(feeds[0])
    axes = {key: {0: "batch"} for key in (*names, OUTPUTS[name])}
    if name == "text" and not model.config.text.fixed_length:
        for key in names:
            axes[key][1] = "length"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the age of this tracer, and on sizes that it takes for constants
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            tower,
            tuple(torch.from_numpy(value) for value in feeds[0].values()),
            str(path),
            input_names=names,
            output_names=[OUTPUTS[name]],
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
        made = onnx.load(str(path))
    made = simplify(made, reshapes=False)
    fixed_shapes(made, feeds)
    pads_into_convolutions(Graph(made))
    made = simplify(made, reshapes=False)
    onnx.checker.check_model(made, full_check=True)
    return made


def sample_feeds(model: DualEncoder, name: str) -> list[Feed]:
    """Inputs of tower ``name`` that differ in every size that may differ."""
    config, random = model.config, np.random.default_rng(0)
    if name == "image":
        side = config.image.image_size
        return [{PIXELS: random.standard_normal((batch, 3, side, side), np.float32)} for batch in (2, 3)]
    longest = config.text.context_length
    lengths = (longest, longest) if config.text.fixed_length else (min(7, longest), min(5, longest - 1))
    shapes = zip((2, 3), lengths, strict=True)
    return [{key: np.ones(shape, np.int64) for key in text_inputs(model)} for shape in shapes]
