"""Which weight matrices INT8 hurts: each is quantized alone, and the outputs are held against fp32."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit.evaluate import parity
from edgekit.export.graph import Graph, save, weight_matmuls
from edgekit.progress import Progress, Silent, track
from edgekit.quantize.candidates import Feed, restore
from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine

TEXTS = 24  # enough to order matrices whose costs differ by factors, at a fraction of a second each


@dataclass(frozen=True)
class Sensitivity:
    """``error``: root mean square of the outputs' change by that of the outputs, with this matrix alone in INT8."""

    matrix: str
    error: float
    cosine_mean: float
    parameters: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the report."""
        return asdict(self)


def rank(
    quantized: onnx.ModelProto, fp32: onnx.ModelProto, feeds: list[Feed], threads: int, progress: Progress = Silent()
) -> list[Sensitivity]:
    """Every weight matrix that ``quantized`` holds in INT8, the one that costs most first.

    ``fp32``: the graph that it was made from; ``feeds``: calibration inputs, the first ``TEXTS`` are used.
    """
    sample = feeds[:TEXTS]
    products = weight_matmuls(Graph(fp32))
    reference = outputs(fp32, sample, threads)
    scale = float(np.sqrt(np.mean(np.square(reference)))) or 1.0
    found = []
    for name, node in track(progress, "sensitivity of each matrix", products.items(), len(products)):
        alone = outputs(restore(quantized, fp32, set(products) - {name}), sample, threads)
        size = Graph(fp32).tensors[node.input[1]].dims
        found.append(
            Sensitivity(
                matrix=name,
                error=float(np.sqrt(np.mean(np.square(alone - reference)))) / scale,
                cosine_mean=parity(reference, alone).cosine_mean,
                parameters=int(np.prod(size)),
            )
        )
    return sorted(found, key=lambda s: (-s.error, s.matrix))


def outputs(model: onnx.ModelProto, feeds: list[Feed], threads: int) -> NDArray[np.float32]:
    """Outputs of ``model`` for each feed, as rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save(model, path)
        engine = OnnxRuntimeEngine(path, threads)
        return np.concatenate(
            [(out := engine.run(f["input_ids"], f["attention_mask"])).reshape(-1, out.shape[-1]) for f in feeds]
        )
