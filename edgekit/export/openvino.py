"""Torch, or the ONNX file, to OpenVINO IR: whichever gives the faster graph, with its distance from torch stated."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.distill.clip.dual import is_dual
from edgekit.distill.encoder import Attention, Encoder
from edgekit.distill.foreign import is_foreign, open_torch
from edgekit.evaluate import interleaved, spec_of
from edgekit.export.dual.openvino import export_dual_openvino
from edgekit.export.ir import Model, convert, name_nodes, save
from edgekit.export.parity import ExportReport, check
from edgekit.progress import Progress, Silent
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.engines.openvino import OpenVinoEngine, import_openvino
from edgekit.runtimes.preprocess import TextPreprocessor

TIE = 0.03  # two graphs whose times are this near are equally fast: the one of fewer kernels is taken
TEXTS, ROUNDS, WARMUP = 32, 4, 8
FREE = ("Const", "Input", "Output", "Reshape")  # layers of a compiled graph that run nothing


def export_openvino(
    torch_folder: Path,
    onnx_folder: Path,
    out: Path,
    config: ExportConfig,
    examples: Sequence[Any],
    progress: Progress = Silent(),
) -> ExportReport:
    """Write ``out``/model.xml, model.bin, tokenizer.json, task.json and artifact.json.

    The encoder in ``torch_folder`` and model.onnx in ``onnx_folder`` are both converted, and timed in turns on
    ``examples``, texts, one thread, batch 1; of a foreign model its ONNX file alone. Inputs ``input_ids`` and
    ``attention_mask``, int64 (batch, length); output ``logits`` or ``embeddings``, float32. The same folders and
    choice give the same bytes. A dual encoder becomes files for each tower, from its ONNX files; its examples are
    pictures, uint8 (H, W, 3), with captions.
    Raises StageError when the file differs from torch by more than ``config`` allows, or fails at some shape.
    """
    if is_dual(torch_folder):
        return export_dual_openvino(torch_folder, onnx_folder, out, config, examples, progress)
    began, texts = time.perf_counter(), list(examples)
    encoder = open_torch(torch_folder)
    output = "embeddings" if encoder.config.task == "embed" else "logits"
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(torch_folder) / "tokenizer.json", out / "tokenizer.json")
    artifact.write(out, spec_of(encoder.config), "openvino", "fp32")
    with tempfile.TemporaryDirectory() as scratch:
        ways = ("onnx",) if is_foreign(torch_folder) else ("torch", "onnx")
        folders = {way: Path(scratch) / way for way in ways}
        for way, folder in folders.items():
            progress.say(f"OpenVINO IR from {way}")
            model = from_torch(torch_folder) if way == "torch" else from_onnx(Path(onnx_folder) / "model.onnx")
            name_nodes(model, output)
            save(model, folder)
        chosen, details = _faster(folders, out, texts, progress)
        for name in ("model.xml", "model.bin"):
            shutil.move(folders[chosen] / name, out / name)
    return check(encoder, out, config, texts, began, details, progress)


def from_torch(folder: Path) -> Model:
    """The encoder in ``folder`` as an OpenVINO model with dynamic batch and length."""
    encoder = Encoder.from_pretrained(folder).float().eval()
    _adapt(encoder)
    ids = torch.ones((2, 5), dtype=torch.int64)
    with encoder.as_plain(), torch.no_grad():
        sizes = [import_openvino().PartialShape([-1, -1])] * 2
        return convert(encoder, example_input=(ids, ids), input=sizes)


def from_onnx(path: Path) -> Model:
    """The ONNX file at ``path`` as an OpenVINO model."""
    return convert(str(path))


class _SplitFirst(Attention):
    """Query, key and value are parted before their heads are: OpenVINO's attention kernel then reads each as it lies.

    On MiniLM in INT8 5 % (32 tokens) and 4 % (128) of the time. The scale of the scores is in the queries' weights.
    """

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        b, t, _ = x.shape
        width = self.heads * self.dim
        q, k, v = (part.view(b, t, self.heads, self.dim).transpose(1, 2) for part in self.qkv(x).split(width, dim=-1))
        shares = (torch.matmul(q, k.transpose(-1, -2)) + mask).softmax(-1)
        return self.out(torch.matmul(shares, v).transpose(1, 2).reshape(b, t, width)), q, k, v


def _adapt(encoder: Encoder) -> None:
    """Change ``encoder`` in place into the form that OpenVINO runs fastest, the same function up to rounding."""
    # windows never pass max_length, so the rest of the table would be dead weight on the device
    encoder.position.weight = nn.Parameter(encoder.position.weight[: encoder.config.max_tokens].detach().clone())
    for block in encoder.blocks():
        attention = block.attention
        attention.__class__ = _SplitFirst
        with torch.no_grad():
            for part in (attention.qkv.weight, attention.qkv.bias):
                part[: attention.heads * attention.dim] *= attention.dim**-0.5


def _faster(folders: dict[str, Path], out: Path, texts: list[str], progress: Progress) -> tuple[str, dict[str, Any]]:
    """Which of the converted models is faster, and what was measured."""
    if len(folders) == 1:
        return next(iter(folders)), {"converted_from": next(iter(folders))}
    windows = TextPreprocessor(out / "tokenizer.json", artifact.read_spec(out)).windows(texts[:TEXTS])
    feeds = [(np.array([w.ids], np.int64), np.ones((1, len(w.ids)), np.int64)) for w in windows]
    engines = {way: OpenVinoEngine(folder / "model.xml", threads=1) for way, folder in folders.items()}
    calls = {way: lambda key, run=engine.run: run(*feeds[int(key)]) for way, engine in engines.items()}
    samples = interleaved(calls, [str(i) for i in range(len(feeds))], ROUNDS, WARMUP, progress)
    kernels = {way: _kernels(folder / "model.xml") for way, folder in folders.items()}
    first, second = folders
    ratio = float(np.median(samples[first] / samples[second]))  # text by text: both saw the same machine
    if abs(ratio - 1) > TIE:
        chosen = first if ratio < 1 else second
    else:
        chosen = min(folders, key=lambda way: kernels[way])
    p50 = {way: float(np.median(taken)) for way, taken in samples.items()}
    return chosen, {"converted_from": chosen, "p50_ms": p50, f"{first}_to_{second}": ratio, "kernels": kernels}


def _kernels(path: Path) -> int:
    """How many kernels an inference runs, after OpenVINO's own fusions."""
    compiled = import_openvino().Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    layers = [node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ops()]
    return sum(layer not in FREE for layer in layers)
