"""What the runtime costs over a bare onnxruntime session: python benchmarks/runtime_overhead.py BUNDLE.

All variants run interleaved in one process, batch 1, one call a text, in a new random order for each text and round
(in a fixed or rotating order each variant would always find the caches that the same other one left):
  bare        session.run of the same session, fed with token ids and mask made beforehand
  tokenizing  the tokenizer alone, text to list of ids
  edgekit     Model.run, text to answer
  read        the same, and for a classifier the reading of label and score, which are worked out on demand
Two sessions of one file differ by 30 % here (memory placement, caches), so both sides call the same session.
The ratio is (edgekit - tokenizing) / bare: each text's medians over the rounds, then the median over texts.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edgekit
from edgekit.bundle import open_bundle
from edgekit.runtimes import isa
from edgekit.runtimes.answers import Classification
from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine
from edgekit.runtimes.model import Model


def answer(model: Model, text: str) -> Any:
    """Text to what a program would use."""
    found = model.run(text)
    return (found.labels, found.scores) if isinstance(found, Classification) else found


def measure(bundle: Path, texts: list[str], rounds: int, threads: int, clock_name: str) -> dict[str, Any]:
    """Median ms of each variant and the ratio, with a 95 % bootstrap interval over texts."""
    model = edgekit.load(bundle, threads=threads, engine="onnxruntime")
    assert isinstance(model.loaded, OnnxRuntimeEngine)
    import onnxruntime as ort
    from tokenizers import Tokenizer

    bare = model.loaded.session
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = [text for text in texts if len(tokenizer.encode(text).ids) <= model.spec.max_length]
    feeds = []
    for text in texts:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        feeds.append({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    calls: dict[str, Callable[[int], Any]] = {
        "bare": lambda i: bare.run(None, feeds[i]),
        "tokenizing": lambda i: tokenizer.encode(texts[i]).ids,
        "edgekit": lambda i: model.run(texts[i]),
        "read": lambda i: answer(model, texts[i]),
    }
    names = list(calls)
    samples = {name: np.zeros((rounds, len(texts))) for name in names}
    for name in names:
        for i in range(len(texts)):
            calls[name](i)
    clock = time.thread_time_ns if clock_name == "cpu" else time.perf_counter_ns
    gc.disable()
    generator = np.random.default_rng(0)
    for turn in range(rounds):
        for i in range(len(texts)):
            for number in generator.permutation(len(names)):
                name = names[number]
                start = clock()
                calls[name](i)
                samples[name][turn, i] = (clock() - start) / 1e6
    gc.enable()
    best = {name: np.median(values, axis=0) for name, values in samples.items()}  # a text's median over the rounds
    medians = {name: float(np.median(values)) for name, values in samples.items()}
    ratios: dict[str, list[float]] = {}
    for name in ("edgekit", "read"):
        paired = (best[name] - best["tokenizing"]) / best["bare"]
        resampled = [float(np.median(generator.choice(paired, len(paired)))) for _ in range(1000)]
        ratios[name] = [float(np.median(paired)), *(float(q) for q in np.quantile(resampled, [0.025, 0.975]))]
    return {
        "file": model.file,
        "threads": threads,
        "clock": clock_name,
        "machine": isa.machine(),
        "onnxruntime": ort.__version__,
        "texts": len(texts),
        "rounds": rounds,
        "tokens_median": float(np.median([feed["input_ids"].size for feed in feeds])),
        "p50_ms": medians,
        "cost_us": 1e3 * float(np.median(best["edgekit"] - best["tokenizing"] - best["bare"])),
        "ratio": ratios,
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--texts", type=Path, help="one text a line, or a tsv whose first column is the text")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: the thread's own time, for a machine that is shared",
    )
    parser.add_argument("--format", choices=["table", "json"], default="table")
    given = parser.parse_args()
    if given.clock == "cpu" and given.threads != 1:
        parser.error("--clock cpu sees one thread only: use it with --threads 1")
    if given.texts:
        lines = given.texts.read_text(encoding="utf-8").splitlines()
        texts = [line.split("\t")[0] for line in lines[1 : given.limit + 1]]
    else:
        golden = open_bundle(given.bundle, check_hashes=False).manifest.golden
        texts = [text for text in golden["texts"] if text][: given.limit]
    found = measure(given.bundle, texts, given.rounds, given.threads, given.clock)
    if given.format == "json":
        print(json.dumps(found))
        return
    print(f"{found['file']}, {found['threads']} thread(s), {found['isa']}, onnxruntime {found['onnxruntime']}")
    print(f"{found['texts']} texts x {found['rounds']} rounds, median {found['tokens_median']:.0f} tokens, batch 1")
    print(f"medians, {found['clock']} time:")
    for name, value in found["p50_ms"].items():
        print(f"  {name:<12}{value:8.4f} ms")
    print(f"  cost over bare, without tokenizing: {found['cost_us']:.1f} us")
    for name, (ratio, low, high) in found["ratio"].items():
        print(f"  ({name} - tokenizing) / bare = {ratio:.4f}  95 % [{low:.4f}, {high:.4f}]  (at most 1.05)")


if __name__ == "__main__":
    main()
