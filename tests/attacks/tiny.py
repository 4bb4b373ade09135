"""Real bundles of a few kB: a mean of word vectors for texts, two towers of colours for pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from edgekit.bundle import Manifest, ModelFile, TaskSpec, write
from edgekit.bundle.dual import DualSpec, ImageSpec
from edgekit.runtimes import artifact
from edgekit.runtimes.golden import make
from edgekit.runtimes.model import Model
from tests.runtimes import duals

LABELS = ["bad", "fine", "good"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"a film that is good bad dull and never funny plot the runs".split()]
TEXTS = ["a good film", "the plot is bad and dull", "never funny", "zebra"]
DIM = 8


def text_bundle(path: Path) -> Path:
    """Task classify, one ONNX file of 2 kB."""
    work = path.parent / f"{path.stem}-work"
    work.mkdir()
    onnx.save(text_model(0), str(work / "model.onnx"))
    (work / "tokenizer.json").write_text(tokenizer().to_str())
    spec, name = TaskSpec("classify", LABELS, 16, 4), "models/fp32.onnx"
    model = Model.from_files(work / "model.onnx", work / "tokenizer.json", spec, threads=1, file=name)
    golden = make(model, TEXTS)
    manifest = Manifest(
        name="tiny",
        created="2026-01-02T03:04:05+00:00",
        edgekit_version="0.1.0",
        task=spec,
        models=[ModelFile(name, "onnxruntime", "fp32")],
        golden=golden["manifest"],
    )
    files = {name: work / "model.onnx", "tokenizer.json": work / "tokenizer.json", "recipe.yaml": b"name: tiny\n"}
    write(path, manifest, files | golden["files"])
    return path


def dual_bundle(path: Path) -> Path:
    """Task clip, an ONNX file a tower."""
    folder = path.parent / f"{path.stem}-artifact"
    for name in ("image", "text"):
        (folder / name).mkdir(parents=True)
    words = duals.tokenizer()
    duals.image_tower(folder / "image/model.onnx")
    duals.text_tower(folder / "text/model.onnx", duals.table(words), with_mask=False)
    (folder / "tokenizer.json").write_text(words.to_str())
    spec = TaskSpec("clip", [], 16, 0, pictures=ImageSpec(duals.SIZE), similarity=DualSpec(10.0))
    towers = {
        "image": {"precision": "fp32", "inputs": ["pixel_values"], "output": "image_embeddings"},
        "text": {"precision": "fp32", "inputs": ["input_ids"], "output": "text_embeddings"},
    }
    artifact.write(folder, spec, "onnxruntime", "fp32", towers)
    name = "models/fp32.image.onnx"
    examples = [(duals.picture(rgb), f"a {colour} thing") for colour, rgb in duals.COLOURS.items()]
    golden = make({name: artifact.load(folder, 1, name)}, examples)
    manifest = Manifest(
        name="dual",
        created="2026-01-02T03:04:05+00:00",
        edgekit_version="0.1.0",
        task=spec,
        models=[artifact.entry(folder, name)],
        golden=golden["manifest"],
    )
    files: dict[str, Path | bytes] = {**artifact.sources(folder, name), "tokenizer.json": folder / "tokenizer.json"}
    write(path, manifest, files | golden["files"])
    return path


def text_model(seed: int, rows: int = len(WORDS)) -> onnx.ModelProto:
    """ids and mask, int64 (b, t) -> logits (b, 3); ``seed`` draws the weights."""
    rng = np.random.default_rng(seed)
    weights = {
        "table": rng.normal(size=(rows, DIM)).astype(np.float32),
        "head": rng.normal(size=(DIM, len(LABELS))).astype(np.float32),
        "axis": np.array([1], np.int64),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["real", "last"], ["wide"]),
        helper.make_node("Mul", ["found", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "head"], ["logits"]),
    ]
    given = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "t"]) for n in ("input_ids", "attention_mask")]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", len(LABELS)])
    graph = helper.make_graph(
        nodes, "tiny", given, [out], [numpy_helper.from_array(value, name) for name, value in weights.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tokenizer() -> Tokenizer:
    found = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    found.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    return found


def manifest_of(root: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((root / "manifest.json").read_bytes())
    return value


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as one who can write it would."""
    value = manifest_of(root)
    change(value)
    (root / "manifest.json").write_text(json.dumps(value))


def reseal(root: Path) -> None:
    """Let the manifest state the sizes and hashes of the files as they are now: damage becomes malice."""

    def change(value: dict[str, Any]) -> None:
        for entry in value["files"]:
            data = (root / entry["path"]).read_bytes()
            entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))

    edit(root, change)
