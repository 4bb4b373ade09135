"""What guarding costs: python benchmarks/guard_overhead.py BUNDLE. One process, turns of 50 requests in rotating order.

  plain     Model.run
  guarded   Guarded.run, engines on a thread of this process
  isolated  Guarded.run, engines in a worker process
Medians over all turns; the ratio to plain is of the medians of each round, with the quartiles over the rounds. A
restart is timed too: the median of --restarts faults, from the fault to the next session that serves.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soak_faults

import edgekit
from edgekit.bundle import open_bundle
from edgekit.errors import NoAnswer
from edgekit.runtimes import Guarded, isa


def measure(bundle: Path, rounds: int, restarts: int, engine: str) -> dict[str, Any]:
    """us an answer of each, ratios, ms of a restart."""
    texts = [text for text in open_bundle(bundle).manifest.golden["texts"] if 0 < len(text) < 60]
    given = {"threads": 1, "engines": [engine], "deadline_ms": 10_000.0, "patience_ms": 60_000.0}
    with contextlib.ExitStack() as stack:
        models = {
            "plain": edgekit.load(bundle, threads=1, engine=engine),
            "guarded": stack.enter_context(Guarded(bundle, **given)),
            "isolated": stack.enter_context(Guarded(bundle, **given, isolate=True)),
        }
        samples: dict[str, list[list[float]]] = {name: [] for name in models}
        names = list(models)
        for turn in range(rounds + 1):
            for name in names[turn % 3 :] + names[: turn % 3]:
                run, row = models[name].run, []
                for i in range(50):
                    text = texts[i % len(texts)]
                    began = time.perf_counter()
                    run(text)
                    row.append(1e6 * (time.perf_counter() - began))
                if turn:  # the first round warms up
                    samples[name].append(row)
    medians = {name: np.median(rows, axis=1) for name, rows in samples.items()}
    ratios = {name: np.quantile(medians[name] / medians["plain"], [0.5, 0.25, 0.75]) for name in names[1:]}
    return {
        "engine": engine,
        "machine": isa.machine(),
        "p50_us": {name: float(np.median(rows)) for name, rows in samples.items()},
        "p99_us": {name: float(np.quantile(rows, 0.99)) for name, rows in samples.items()},
        "ratio": {name: [float(one) for one in found] for name, found in ratios.items()},
        "restart_ms": {
            name: restart_ms(bundle, restarts, {**given, "isolate": name == "isolated"}) for name in names[1:]
        },
    }


def restart_ms(bundle: Path, count: int, given: dict[str, Any]) -> float:
    """Median ms from a fault to the next session that serves."""
    hook = "soak_faults:wrap" if given["isolate"] else soak_faults.wrap
    with Guarded(bundle, **given, wrap_engine=hook) as model:
        for _ in range(count):
            soak_faults.order("throw")
            with contextlib.suppress(NoAnswer):
                model.run("no")
            for _ in range(101):  # it settles
                model.run("no")
        return float(np.median(model.health()["recovery_ms"]))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("build/sentiment.edge"))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--restarts", type=int, default=9)
    parser.add_argument("--engine", default="onnxruntime")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        os.environ[soak_faults.ORDER] = str(Path(work) / "order")
        here = str(Path(__file__).resolve().parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        print(json.dumps(measure(given.bundle, given.rounds, given.restarts, given.engine), indent=1))


if __name__ == "__main__":
    main()
