"""The fresh process behind one row of a profile: JSON in on stdin, JSON out on stdout.

Imports nothing but the standard library before the clock starts, so that ``load_ms`` holds what a device pays.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError, EngineError

if TYPE_CHECKING:
    from edgekit.runtimes.model import Model

VARIANTS = 4  # texts that the runs go through, so that no cache learns one by heart


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """One row: ``job`` has bundle, file, threads, batch, length, runs, warmup, words. Times in ms, memory in MB.

    ``engine`` may name the engine. With ``texts`` in the job, those are answered one by one instead, and memory alone
    is told; with ``answers``, see :func:`answers`.
    """
    if "answers" in job:
        return answers(job)
    clock = time.perf_counter_ns
    began = clock()
    from edgekit.runtimes.load import load

    model = load(job["bundle"], threads=job["threads"], engine=job.get("engine", "auto"), file=job["file"])
    loaded = clock()
    if "texts" in job:
        for one in job["texts"]:
            model.run(one)
        return memory()
    sets = make_texts(model, job["words"], job["length"], job["batch"])
    tokens = max(len(window.ids) for window in model.pipeline.preprocessor.windows(sets[0]))
    started = clock()
    _parts(model, sets[0])
    first = clock() - started
    for number in range(job["warmup"]):
        _parts(model, sets[number % len(sets)])
    gc.collect()
    gc.disable()
    parts = [_parts(model, sets[number % len(sets)]) for number in range(job["runs"])]
    gc.enable()
    return {
        "engine": model.engine,
        "engine_version": model.engine_version,
        "precision": model.precision,
        "threads": model.threads,
        "tokens": tokens,
        "load_ms": (loaded - began) / 1e6,
        "first_ms": first / 1e6,
        "parts_ms": [[part / 1e6 for part in row] for row in parts],
        **memory(),
    }


def answers(job: dict[str, Any]) -> dict[str, Any]:
    """What each (file, engine) of ``answers`` gives for each of ``texts`` alone: ``outputs``, or the ``error``.

    ``held``: the instruction set that hold.c must hold this process to, None for none; EngineError when it is not so.
    """
    from edgekit.bundle import open_bundle
    from edgekit.runtimes.golden import alone
    from edgekit.runtimes.load import load_file

    if job["held"] != os.environ.get("EDGEKIT_HELD"):
        raise EngineError("hold.c", found="it was not preloaded", expected=f"a process held to {job['held']}")
    bundle = open_bundle(job["bundle"], check_hashes=False)
    models = {model.path: model for model in bundle.manifest.models}
    found: list[dict[str, Any]] = []
    for file, engine in job["answers"]:
        try:
            model = load_file(bundle, models[file], job["threads"], engine)
            found.append({"outputs": [output.tolist() for output in alone(model, job["texts"])]})
        except Exception as error:  # this one's answer; the others may do better
            found.append({"error": " ".join(str(error).split())})
    return {"answers": found}


def _parts(model: Model, texts: list[str]) -> tuple[int, int, int]:
    clock = time.perf_counter_ns
    a = clock()
    prepared = model.prepare(texts)
    b = clock()
    raw = model.forward(prepared)
    c = clock()
    model.finish(prepared, raw)
    return b - a, c - b, clock() - c


def make_texts(model: Model, words: list[str], length: int, batch: int) -> list[list[str]]:
    """``VARIANTS`` batches of ``batch`` texts of ``length`` tokens (special ones included), made of ``words``.

    Words are taken in turn; where no word fits the last gap, the text stays a token or so short.
    """
    windows = model.pipeline.preprocessor.windows
    special = len(windows([""])[0].ids)
    cost = {word: len(windows([word])[0].ids) - special for word in words}
    cost = {word: tokens for word, tokens in cost.items() if tokens} or {"a": 1}
    order = list(cost)

    def text(start: int) -> str:
        chosen: list[str] = []
        left, misses, at = length - special, 0, start
        while left > 0 and misses < len(order):
            word = order[at % len(order)]
            at += 1
            if cost[word] <= left:
                chosen.append(word)
                left -= cost[word]
                misses = 0
            else:
                misses += 1
        return " ".join(chosen)

    return [[text(7 * (variant * batch + place)) for place in range(batch)] for variant in range(VARIANTS)]


def memory() -> dict[str, float | None]:
    """Resident memory of this process now and at its peak, MB; None where the kernel does not tell."""
    found: dict[str, float | None] = {"rss_steady_mb": None, "rss_mb": None}
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key in ("VmRSS", "VmHWM"):
                    name = "rss_steady_mb" if key == "VmRSS" else "rss_mb"
                    found[name] = round(int(value.split()[0]) * 1024 / 1e6, 1)
    except OSError:
        pass
    return found


def main() -> int:
    """Read a job, print its row, or ``{"error", "exit_code"}``."""
    job = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # an engine that prints must not spoil the answer
    try:
        answer: dict[str, Any] = measure(job)
    except EdgekitError as error:
        answer = {"error": str(error), "exit_code": error.exit_code}
    json.dump(answer, out)
    out.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
