"""Real bundles of a few kilobytes: the mean of word vectors, a tanh and a matrix. Fast enough to be made for each test.

Two seeds give two models whose answers differ by far more than any tolerance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgekit.bundle import Manifest, ModelFile, TaskSpec, write
from edgekit.bundle.records import RungRecord
from edgekit.runtimes import isa
from edgekit.runtimes.golden import make
from edgekit.runtimes.model import Model
from tests.needs import needs

LABELS = ["negative", "neutral", "positive"]
WORDS = "a b c the film is was good bad dull fine charming funny plot jokes fall flat it runs for two hours no".split()
TEXTS = ["a charming film", "the plot is dull and the jokes fall flat", "no", "it runs for two hours", "good"]
WIDTH = 16
ONNX, XML = "models/fp32.onnx", "models/fp32.xml"


def tokenizer() -> Tokenizer:
    """WordPiece over a few words."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def graph(seed: int) -> onnx.ModelProto:
    """ids and mask (B, T) -> logits (B, 3)."""
    draw = np.random.default_rng(seed)
    values = {
        "table": draw.normal(size=(len(WORDS) + 4, WIDTH)).astype(np.float32),
        "matrix": draw.normal(size=(WIDTH, len(LABELS))).astype(np.float32),
        "last": np.array([2], np.int64),
        "middle": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["wide"]),
        helper.make_node("Mul", ["rows", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "middle"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Tanh", ["mean"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "matrix"], ["logits"]),
    ]
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "t"]) for n in ("input_ids", "attention_mask")]
    out = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", len(LABELS)])]
    weights = [numpy_helper.from_array(value, name) for name, value in values.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "tiny", ids, out, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    made.ir_version = 9
    onnx.checker.check_model(made)
    return made


def bundle(path: Path, seed: int = 0, openvino: bool = False, name: str = "tiny") -> Path:
    """Write the bundle ``path``: onnxruntime, and then openvino if asked for."""
    work = path.parent / f".{path.name}.work"
    work.mkdir(parents=True)
    tokenizer().save(str(work / "tokenizer.json"))
    onnx.save(graph(seed), str(work / "model.onnx"))
    spec = TaskSpec("classify", LABELS, 32, 8)
    files: dict[str, Path | bytes] = {ONNX: work / "model.onnx", "tokenizer.json": work / "tokenizer.json"}
    made = {ONNX: Model.from_files(work / "model.onnx", work / "tokenizer.json", spec, threads=1, file=ONNX)}
    entries = [ModelFile(ONNX, "onnxruntime", "fp32")]
    if openvino:
        needs("openvino", extra="openvino")
        from edgekit.runtimes.engines.openvino import import_openvino

        ov = import_openvino()
        ov.save_model(ov.convert_model(str(work / "model.onnx")), str(work / "model.xml"), compress_to_fp16=False)
        files |= {XML: work / "model.xml", "models/fp32.bin": work / "model.bin"}
        made[XML] = Model.from_files(work / "model.xml", work / "tokenizer.json", spec, "openvino", threads=1, file=XML)
        entries.append(ModelFile(XML, "openvino", "fp32", parts=["models/fp32.bin"]))
    golden = make(made, TEXTS)
    manifest = Manifest(
        name=name,
        created="2026-01-01T00:00:00Z",
        edgekit_version="0.1.0",
        task=spec,
        models=entries,
        golden=golden["manifest"],
    )
    write(path, manifest, files | golden["files"])
    return path


def ladder(path: Path, changes: dict[str, object] | None = None) -> Path:
    """Write the bundle ``path`` of three rungs, "6", "4" and "2", each of another seed; the last is stated fastest."""
    work = path.parent / f".{path.name}.work"
    work.mkdir(parents=True)
    tokenizer().save(str(work / "tokenizer.json"))
    spec = TaskSpec("classify", LABELS, 32, 8)
    files: dict[str, Path | bytes] = {"tokenizer.json": work / "tokenizer.json"}
    made = {}
    for seed, name in enumerate((ONNX, "models/4/fp32.onnx", "models/2/fp32.onnx")):
        files[name] = work / f"{seed}.onnx"
        onnx.save(graph(seed), str(files[name]))
        made[name] = Model.from_files(work / f"{seed}.onnx", work / "tokenizer.json", spec, threads=1, file=name)
    golden = make(made, TEXTS)
    rungs = []
    for layers, name, value in zip((6, 4, 2), made, (0.95, 0.94, 0.9), strict=True):
        models = [] if layers == 6 else [ModelFile(name, "onnxruntime", "fp32")]
        told = {"metric": "accuracy", "value": value, "low": value - 0.01, "high": value + 0.01, "n": 1000}
        rung = RungRecord(
            str(layers), agreement=0.97, size_bytes=2000, p50_ms=layers / 2, models=models, layers=layers, **told
        )
        rungs.append(rung)
    environment = isa.machine()
    profile = {"environment": environment, "engine": "onnxruntime", "threads": 1}
    manifest = Manifest(
        name="ladder",
        created="2026-01-01T00:00:00Z",
        edgekit_version="0.1.0",
        task=spec,
        models=[ModelFile(ONNX, "onnxruntime", "fp32")],
        ladder=rungs,
        profiles=[{**profile, "file": name, "p50_ms": 9.0 - 4 * i} for i, name in enumerate(made)],
        golden=golden["manifest"],
    )
    write(path, Manifest.from_dict({**manifest.to_dict(), **(changes or {})}), files | golden["files"])
    return path
