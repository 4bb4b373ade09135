"""Every engine's files of MiniLM-L6 beside torch and sentence-transformers' own backends: python benchmarks/engines.py.

Makes a bundle of all engines in fp32 and INT8 from the package's model, and sentence-transformers' torch, ONNX and
OpenVINO backends of the same model with its own INT8 of both (ONNX dynamic for avx512_vnni, OpenVINO static). Each
system lives in a process of its own; they take turns in short blocks, so all share the machine's moods. Latency: p50 at
batch 1 of the engine alone on ready token ids, and from text to embedding, for 16, 32 and 128 tokens, 1 and 2 threads.
Accuracy: cosine to torch of the sentences of the STS-B development set, and Spearman on its 1,500 pairs.
Prints Markdown. --json FILE keeps every sample.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from engines_peers import make_peers
from engines_worker import System, serve

from edgekit.bundle import open_bundle
from edgekit.compress import compress
from edgekit.evaluate.intervals import spearman_rows
from edgekit.recipe import load_recipe
from edgekit.runtimes import isa

LENGTHS, THREADS, BLOCK = (16, 32, 128), (1, 2), 20
OURS = ("onnxruntime", "openvino", "litert")
RECIPE = Path(__file__).parent / "recipes" / "int8_only.yaml"


@dataclass
class Row:
    """One system. ``ms[threads, length]`` is (engine alone, text to embedding), p50."""

    name: str
    ours: bool
    int8: bool
    size: int
    cosine: tuple[float, float] = (0.0, 0.0)
    spearman: float = 0.0
    ms: dict[str, tuple[float, float]] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EDGEKIT_TEST_DATA", "../shared/data")))
    parser.add_argument("--rounds", type=int, default=12, help="turns of each system at each length")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sts = options.data / "text" / "stsb"
    if not (sts / "dev.csv").is_file():
        print(f"no {sts / 'dev.csv'}: name the data folder with --data", file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        systems = [*make_peers(Path(scratch), sts), *our_systems(Path(scratch), sts)]
        rows = [Row(s.name, s.kind == "edgekit", s.int8, s.size) for s in systems]
        accuracy(systems, rows, sts / "dev.csv")
        for threads in THREADS:
            latency(systems, rows, threads, options.rounds)
    print(table(rows))
    print(verdict(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), "utf-8")
    return 0


def our_systems(scratch: Path, sts: Path) -> list[System]:
    """The files of a bundle that holds every engine, made by the pipeline without any training."""
    recipe = load_recipe(
        str(RECIPE),
        {
            "engines": ",".join(OURS),
            "data.train": str(sts / "train.csv"),
            "data.test": str(sts / "dev.csv"),
            "keep": "failed",
        },
    )
    result = compress(recipe, scratch / "minilm.edge")
    found = []
    for model in open_bundle(result.bundle).manifest.models:
        size = sum((result.bundle / name).stat().st_size for name in (model.path, *model.parts))
        label = {"fp32": "fp32", "w8a8": "INT8"}[model.precision]
        found.append(
            System(
                f"edgekit, {model.engine} {label}",
                "edgekit",
                str(result.bundle),
                model.path,
                size,
                model.precision == "w8a8",
            )
        )
    return sorted(found, key=lambda s: (s.int8, s.name))


class Worker:
    """One system in its process."""

    def __init__(self, system: System, threads: int) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(system, threads, theirs), daemon=True)
        self.process.start()

    def ask(self, *question: Any) -> Any:
        """The answer to one question; an error over there is one here."""
        self.pipe.send(question)
        answer = self.pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def close(self) -> None:
        self.pipe.close()
        self.process.join(5)
        self.process.kill()


def accuracy(systems: list[System], rows: list[Row], dev: Path) -> None:
    """Embeddings of every sentence of the set, by each system; the first system is the reference."""
    with open(dev, encoding="utf-8", newline="") as file:
        pairs = [row for row in csv.reader(file) if len(row) == 3]
    sentences = list(dict.fromkeys(text for row in pairs for text in row[:2]))
    place = {text: i for i, text in enumerate(sentences)}
    truth = np.array([float(row[2]) for row in pairs])
    reference = None
    for system, row in zip(systems, rows, strict=True):
        worker = Worker(system, 2)
        found = np.asarray(worker.ask("embed", sentences))
        worker.close()
        found = found / np.linalg.norm(found, axis=1, keepdims=True)
        reference = found if reference is None else reference
        cosines = (found * reference).sum(1)
        row.cosine = (float(cosines.mean()), float(cosines.min()))
        a, b = (found[[place[pair[i]] for pair in pairs]] for i in (0, 1))
        row.spearman = float(spearman_rows((a * b).sum(1)[None].astype(np.float64), truth[None])[0])


def latency(systems: list[System], rows: list[Row], threads: int, rounds: int) -> None:
    """p50 of each system, all in turns, block by block."""
    workers = [Worker(system, threads) for system in systems]
    for length in LENGTHS:
        samples: list[tuple[list[float], list[float]]] = [([], []) for _ in systems]
        for worker in workers:
            worker.ask("prepare", length)
        for turn in range(rounds):
            for step in range(len(workers)):
                at = (turn + step) % len(workers)
                alone, whole = workers[at].ask("time", BLOCK)
                samples[at][0].extend(alone)
                samples[at][1].extend(whole)
        for row, (alone, whole) in zip(rows, samples, strict=True):
            row.ms[f"{threads}/{length}"] = (float(np.median(alone)), float(np.median(whole)))
    for worker in workers:
        worker.close()


def table(rows: list[Row]) -> str:
    """Markdown: engine alone, and in brackets from text to embedding."""
    columns = [f"{threads}/{length}" for threads in THREADS for length in LENGTHS]
    heads = [f"{c.split('/')[0]} thr, {c.split('/')[1]} tok" for c in columns]
    lines = [
        f"{isa.machine_name()}; ms: the engine alone (text to embedding)",
        "",
        f"| | MB | cosine mean / min | Spearman | {' | '.join(heads)} |",
        f"|---|---|---|---|{'---|' * len(heads)}",
    ]
    for row in rows:
        cells = [f"{row.ms[c][0]:.2f} ({row.ms[c][1]:.2f})" for c in columns]
        lines.append(
            f"| {row.name} | {row.size / 1e6:.1f} | {row.cosine[0]:.5f} / {row.cosine[1]:.4f} | {row.spearman:.4f} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def verdict(rows: list[Row]) -> str:
    """Our best INT8 beside the best of theirs and torch, at each length: ratios of p50."""
    torch = rows[0]
    lines = ["", "| threads, tokens | our best INT8 | theirs | faster, engine alone | text to embedding | than torch |"]
    lines.append("|---|---|---|---|---|---|")
    ours = [row for row in rows if row.ours and row.int8]
    theirs = [row for row in rows if not row.ours and row.int8]
    for threads in THREADS:
        for length in LENGTHS:
            key = f"{threads}/{length}"
            good = [row for row in ours if row.spearman >= max(t.spearman for t in theirs) - 1e-9] or ours
            best, rival = (min(group, key=lambda row: row.ms[key][0]) for group in (good, theirs))
            ratios = [rival.ms[key][i] / best.ms[key][i] for i in (0, 1)]
            lines.append(
                f"| {threads}, {length} | {best.name} | {rival.name} | {ratios[0]:.2f} | {ratios[1]:.2f} | "
                f"{torch.ms[key][0] / best.ms[key][0]:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
