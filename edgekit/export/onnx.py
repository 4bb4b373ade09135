"""Torch to ONNX, with the proof that both answer alike at every shape."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgekit.bundle.records import TaskSpec
from edgekit.distill.encoder import Encoder
from edgekit.errors import StageError
from edgekit.evaluate import parity, spec_of
from edgekit.export.graph import save
from edgekit.export.simplify import simplify
from edgekit.progress import Progress, Silent, track
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine
from edgekit.runtimes.preprocess import TextPreprocessor

INPUTS = ("input_ids", "attention_mask")
CHECKED = 64  # texts that parity is measured on; each also at its own length, batch 1

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class ExportReport:
    """What was written and how far it is from torch: fp32 both, in onnxruntime on this machine.

    ``max_abs`` and the cosines are the worst (and mean) over ``rows`` outputs of ``texts`` real texts and of
    ``shapes`` shapes (batch 1 to 3, length 1 to the longest) with padding inside.
    """

    opset: int
    nodes: int
    size_bytes: int
    max_abs: float
    cosine_mean: float
    cosine_min: float
    rows: int
    texts: int
    shapes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a stage's record."""
        return asdict(self)


def export_onnx(
    torch_folder: Path, out: Path, config: ExportConfig, texts: list[str], progress: Progress = Silent()
) -> ExportReport:
    """Write ``out``/model.onnx, tokenizer.json, task.json and artifact.json from the encoder in ``torch_folder``.

    Inputs ``input_ids`` and ``attention_mask``, int64 (batch, length), length at most the task's ``max_length``
    (later rows of the position table are left out); output ``logits`` or ``embeddings``, float32. The same folder gives
    the same bytes.
    Raises StageError when the file differs from torch by more than ``config`` allows, or fails at some shape.
    """
    began = time.perf_counter()
    encoder = Encoder.from_pretrained(torch_folder).float().eval()
    spec = spec_of(encoder.config)
    model = trace(encoder, config.opset)
    out.mkdir(parents=True, exist_ok=True)
    size = save(model, out / "model.onnx")
    shutil.copyfile(Path(torch_folder) / "tokenizer.json", out / "tokenizer.json")
    write_records(out, spec, "fp32")

    preprocessor = TextPreprocessor(out / "tokenizer.json", spec)
    windows = preprocessor.windows(texts[:CHECKED])
    cases = [(np.array([w.ids], np.int64), np.ones((1, len(w.ids)), np.int64)) for w in windows]
    cases += [(batch.ids, batch.mask) for batch in preprocessor.batches(windows)]
    shapes = probe_shapes(encoder.config.vocab_size, spec)
    engine = OnnxRuntimeEngine(out / "model.onnx", threads=1)
    expected, found = [], []
    for ids, mask in track(progress, "parity with torch", cases + shapes, len(cases) + len(shapes)):
        with torch.inference_mode():
            theirs = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        ours = engine.run(ids, mask)
        if ours.shape != theirs.shape:
            raise StageError(f"model.onnx at input shape {ids.shape}", found=ours.shape, expected=theirs.shape)
        keep = mask.astype(bool) if spec.task == "tag" else slice(None)
        expected.append(theirs[keep])
        found.append(ours[keep])
    measured = parity(np.concatenate(expected), np.concatenate(found))
    report = ExportReport(
        opset=config.opset,
        nodes=len(model.graph.node),
        size_bytes=size,
        max_abs=measured.max_abs,
        cosine_mean=measured.cosine_mean,
        cosine_min=measured.cosine_min,
        rows=sum(len(x) for x in found),
        texts=len(texts[:CHECKED]),
        shapes=len(shapes),
        seconds=time.perf_counter() - began,
    )
    if measured.max_abs > config.max_abs or measured.cosine_min < config.min_cosine:
        raise StageError(
            "model.onnx differs from torch",
            found=f"max-abs {measured.max_abs:.2g}, cosine {measured.cosine_min:.7f}",
            expected=f"at most {config.max_abs:g} and at least {config.min_cosine:g}",
            fix="Loosen stages.export.max_abs or min_cosine only if the task's metric is unharmed.",
        )
    return report


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
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the age of this tracer, whose graphs engines fuse best
            path = Path(folder) / "traced.onnx"
            torch.onnx.export(
                encoder.eval(),
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


def probe_shapes(vocabulary: int, spec: TaskSpec) -> list[tuple[Ids, Ids]]:
    """Ids and masks of batch 1 to 3 and lengths 1 to ``max_length``, with right padding in all rows but the first."""
    random = np.random.default_rng(0)
    longest = spec.max_length
    cases = []
    for length in sorted({1, 2, 3, 5, 8, 17, longest // 2, longest - 1, longest} & set(range(1, longest + 1))):
        for batch in (1, 2, 3):
            ids = random.integers(0, vocabulary, (batch, length), dtype=np.int64)
            mask = np.ones((batch, length), np.int64)
            for row in range(1, batch):
                mask[row, max(1, length - row * (length // 3)) :] = 0
            cases.append((np.where(mask == 1, ids, spec.pad_id), mask))
    return cases


def write_records(folder: Path, spec: TaskSpec, precision: str) -> None:
    """task.json and artifact.json: what a stage after this one must know of ``folder``."""
    (folder / "task.json").write_text(json.dumps(spec.to_dict(), indent=1, sort_keys=True) + "\n", "utf-8")
    kind = {"kind": "onnx", "engine": "onnxruntime", "precision": precision}
    (folder / "artifact.json").write_text(json.dumps(kind, indent=1, sort_keys=True) + "\n", "utf-8")


def read_spec(folder: Path) -> TaskSpec:
    """The task.json in ``folder``."""
    spec: TaskSpec = TaskSpec.from_dict(json.loads((folder / "task.json").read_text("utf-8")), "task.json")
    return spec
