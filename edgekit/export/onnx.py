"""Torch to ONNX, with the proof that both answer alike at every shape."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from edgekit.distill.clip.dual import is_dual
from edgekit.distill.encoder import Encoder
from edgekit.evaluate import spec_of
from edgekit.export.dual.onnx import export_dual_onnx
from edgekit.export.graph import save
from edgekit.export.parity import ExportReport, check
from edgekit.export.simplify import simplify
from edgekit.progress import Progress, Silent
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact

INPUTS = ("input_ids", "attention_mask")


def export_onnx(
    torch_folder: Path, out: Path, config: ExportConfig, examples: Sequence[Any], progress: Progress = Silent()
) -> ExportReport:
    """Write ``out``/model.onnx, tokenizer.json, task.json and artifact.json from the encoder in ``torch_folder``.

    Inputs ``input_ids`` and ``attention_mask``, int64 (batch, length), length at most the task's ``max_length``
    (later rows of the position table are left out); output ``logits`` or ``embeddings``, float32. The same folder gives
    the same bytes. ``examples``: texts, that parity is measured on. A dual encoder becomes a file for each tower, as
    :func:`edgekit.export.dual.onnx.export_dual_onnx` says; its examples are pictures, uint8 (H, W, 3), with captions.
    Raises StageError when the file differs from torch by more than ``config`` allows, or fails at some shape.
    """
    if is_dual(torch_folder):
        return export_dual_onnx(torch_folder, out, config, examples, progress)
    began = time.perf_counter()
    encoder = Encoder.from_pretrained(torch_folder).float().eval()
    model = trace(encoder, config.opset)
    out.mkdir(parents=True, exist_ok=True)
    save(model, out / "model.onnx")
    shutil.copyfile(Path(torch_folder) / "tokenizer.json", out / "tokenizer.json")
    artifact.write(out, spec_of(encoder.config), "onnxruntime", "fp32")
    details = {"opset": config.opset, "nodes": len(model.graph.node)}
    return check(encoder, out, config, list(examples), began, details, progress)


def trace(encoder: Encoder, opset: int = 17) -> onnx.ModelProto:
    """``encoder`` as a plain ONNX model with dynamic batch and length; ``encoder`` itself stays as it was."""
    output = "embeddings" if encoder.config.task == "embed" else "logits"
    ids = torch.ones((2, 5), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    table = encoder.position.weight
    # windows never pass max_length, so the rest of the table would be dead weight on the device
    encoder.position.weight = torch.nn.Parameter(table[: encoder.config.max_tokens].detach().clone())
    axes = {name: {0: "batch", 1: "length"} for name in INPUTS}
    axes[output] = {0: "batch", 1: "length"} if encoder.config.task == "tag" else {0: "batch"}
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), encoder.as_plain():
            warnings.simplefilter("ignore")  # on the age of this tracer, whose graphs engines fuse best
            path = Path(folder) / "traced.onnx"
            torch.onnx.export(
                encoder,
                (ids, mask),
                str(path),
                input_names=list(INPUTS),
                output_names=[output],
                dynamic_axes=axes,
                opset_version=opset,
                dynamo=False,
            )
            model = onnx.load(str(path))
    finally:
        encoder.position.weight = table
    model = simplify(model)
    onnx.checker.check_model(model, full_check=True)
    return model
