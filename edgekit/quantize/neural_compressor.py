"""Weights rounded by neural-compressor's GPTQ (Frantar et al. 2023): each error is made good in the columns after it.

Of what neural-compressor 3.10 offers this alone gains on an encoder (docs/quantization.md has the list). Its result is
a torch module that no engine reads, so the rounded weights are put into our graph, whose quantizers find them on the
grid again.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx

from edgekit.errors import MissingDependencyError, StageError
from edgekit.export.graph import Graph, copy, weight_matmuls
from edgekit.quantize.backend import Feed

NAME = "neural-compressor"
FEEDS = 64  # calibration texts; 32 gave the same cosine
NEEDED = ("neural_compressor", "cpuinfo", "prettytable")  # the last two it imports but does not depend on by itself


def require() -> None:
    """Raise MissingDependencyError when it cannot be used."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            "candidate neural-compressor",
            found=f"no {', '.join(missing)}",
            expected="the extra neural-compressor",
            fix="pip install edgekit[neural-compressor], or leave it out of stages.quantize.candidates",
        )


def rounded(model: onnx.ModelProto, torch_folder: Path, feeds: list[Feed]) -> onnx.ModelProto:
    """A copy of ``model`` whose weight matrices are multiples of their columns' largest value by 127.5, 8 bits.

    ``torch_folder``: the encoder that ``model`` was exported from; ``feeds``: calibration inputs.
    Raises MissingDependencyError, or StageError when a matrix was not rounded.
    """
    require()
    from edgekit.distill.foreign import is_foreign

    if is_foreign(torch_folder):
        raise StageError("neural-compressor", found="a foreign model", expected="a BERT, DistilBERT or RoBERTa encoder")
    found = _gptq(torch_folder, feeds[:FEEDS])
    graph = Graph(copy(model))
    products = weight_matmuls(graph)
    if set(products) - set(found):
        raise StageError(
            "neural-compressor", found=f"no rounding of {sorted(set(products) - set(found))}", expected="all matrices"
        )
    for name, node in products.items():
        weight = graph.constant(node.input[1])
        assert weight is not None
        scales = np.abs(weight).max(axis=0) / np.float32(127.5)
        scales[scales == 0] = 1
        codes = np.clip(np.rint(found[name].T / scales), -127, 127)  # -128 stands for -127.5, and -127 is as near
        graph.add_constant(node.input[1], (codes * scales).astype(np.float32))
    return graph.model


def _gptq(torch_folder: Path, feeds: list[Feed]) -> dict[str, np.ndarray]:
    """Each Linear's weights (out, in) as GPTQ rounds them, by the module's name."""
    os.environ.setdefault("INC_TARGET_DEVICE", "cpu")
    import torch
    from neural_compressor.torch.quantization import GPTQConfig, convert, prepare

    from edgekit.distill.encoder import Encoder

    encoder = Encoder.from_pretrained(torch_folder).float().eval()
    model = prepare(encoder, GPTQConfig(dtype="int", bits=8, use_sym=True, group_size=-1))
    for feed in feeds:
        model(torch.from_numpy(feed["input_ids"]), torch.from_numpy(feed["attention_mask"]))
    model = convert(model)
    return {
        name: module.recover().float().numpy()
        for name, module in model.named_modules()
        if type(module).__name__ == "INCWeightOnlyLinear"
    }
