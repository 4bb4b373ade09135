"""The fresh process behind one row of a profile: JSON in on stdin, JSON out on stdout.

Imports nothing but the standard library before the clock starts, so that ``load_ms`` holds what a device pays.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from edgekit.errors import EdgekitError, EngineError

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model

PARTS = ["preprocess", "model", "postprocess"]
VARIANTS = 4  # texts that the runs go through, so that no cache learns one by heart


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """One row: ``job`` has bundle, file, threads, batch, length, runs, warmup, words. Times in ms, memory in MB.

    ``engine`` may name the engine; of a dual encoder ``tower`` says which one, ``pictures`` may name files for it and
    ``index`` one to search. With ``examples`` in the job, those are answered one by one instead, and memory alone is
    told; with ``answers``, see :func:`answers`.
    """
    if "answers" in job:
        return answers(job)
    clock = time.perf_counter_ns
    began = clock()
    from edgekit.runtimes.load import load

    model = load(job["bundle"], threads=job["threads"], engine=job.get("engine", "auto"), file=job["file"])
    loaded = clock()
    if "examples" in job:
        from edgekit.devices.examples import from_json

        run: Callable[[Any], object] = model.run
        for one in job["examples"]:
            run(from_json(one))
        return memory()
    names, one_run, tokens = _runner(model, job)
    started = clock()
    one_run(0)
    first = clock() - started
    for number in range(job["warmup"]):
        one_run(number)
    gc.collect()
    gc.disable()
    parts = [one_run(number) for number in range(job["runs"])]
    gc.enable()
    return {
        "engine": model.engine,
        "engine_version": model.engine_version,
        "precision": model.precision,
        "threads": model.threads,
        "tokens": tokens,
        "load_ms": (loaded - began) / 1e6,
        "first_ms": first / 1e6,
        "parts": names,
        "parts_ms": [[part / 1e6 for part in row] for row in parts],
        **memory(),
    }


def _runner(model: Model | DualModel, job: dict[str, Any]) -> tuple[list[str], Callable[[int], Sequence[int]], Any]:
    """Names of the parts; what runs variant number n and gives each part's ns; tokens of the first text, if any."""
    if job.get("tower") == "image":
        from edgekit.devices import dual_worker

        sources = job.get("pictures") or dual_worker.jpegs(_golden_pictures(job["bundle"]))
        return (*dual_worker.image_row(cast("DualModel", model), job["batch"], sources, job.get("index", "")), None)
    sets = make_texts(model.token_ids, job["words"], job["length"], job["batch"])
    tokens = max(len(model.token_ids(text)[0]) for text in sets[0])
    if job.get("tower") == "text":
        from edgekit.devices import dual_worker

        return (*dual_worker.text_row(cast("DualModel", model), sets, job.get("index", "")), tokens)
    text_model = cast("Model", model)
    return PARTS, lambda number: _parts(text_model, sets[number % len(sets)]), tokens


def _golden_pictures(bundle: str) -> list[Any]:
    """Pictures that the bundle has golden vectors of, or one of no colour."""
    import numpy as np

    from edgekit.bundle import open_bundle
    from edgekit.runtimes.check import golden_of

    golden = golden_of(open_bundle(bundle, check_hashes=False))
    return golden.pictures if golden is not None else [np.full((480, 640, 3), 127, np.uint8)]


def answers(job: dict[str, Any]) -> dict[str, Any]:
    """What each (file, engine) of ``answers`` gives for each golden example alone, by tower: ``outputs``; or ``error``.

    ``held``: the instruction set that hold.c must hold this process to, None for none; EngineError when it is not so.
    """
    from edgekit.bundle import open_bundle
    from edgekit.runtimes.check import golden_of
    from edgekit.runtimes.golden import alone
    from edgekit.runtimes.load import load_file

    if job["held"] != os.environ.get("EDGEKIT_HELD"):
        raise EngineError("hold.c", found="it was not preloaded", expected=f"a process held to {job['held']}")
    bundle = open_bundle(job["bundle"], check_hashes=False)
    golden = golden_of(bundle)
    models = {model.path: model for model in bundle.manifest.every_model}
    found: list[dict[str, Any]] = []
    for file, engine in job["answers"]:
        try:
            given = alone(load_file(bundle, models[file], job["threads"], engine), golden.examples if golden else [])
            found.append({"outputs": {role: [one.tolist() for one in outputs] for role, outputs in given.items()}})
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


def make_texts(
    token_ids: Callable[[str], list[list[int]]], words: list[str], length: int, batch: int
) -> list[list[str]]:
    """``VARIANTS`` batches of ``batch`` texts of ``length`` tokens (special ones included), made of ``words``.

    ``token_ids``: a text's windows. Words are taken in turn; where no word fits the last gap, the text stays a token or
    so short.
    """
    special = len(token_ids("")[0])
    cost = {word: len(token_ids(word)[0]) - special for word in words}
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
