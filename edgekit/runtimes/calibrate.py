"""Timing a bundle's engines on this machine, in a process of its own: one that crashes or hangs takes nobody along.

What it loads is also gone with it, so that a first load leaves no more in memory than any later one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError
from edgekit.runtimes.choose import Choice, Measured
from edgekit.runtimes.process import environment

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model

LIMIT_S = 2.0  # for all of it: starting Python, loading the engines, timing them
SHARE_S = 0.15  # of timing for each engine
EXAMPLES = 4


def calibrate(bundle: Path, choices: Sequence[Choice], threads: int, prove: bool) -> Measured:
    """Time each of ``choices`` on golden examples of ``bundle`` (or a few of our own), one after the other.

    ``prove``: a choice that fails its golden vectors is broken. Ends after ``LIMIT_S`` at the latest; what was not
    reached by then is in neither part of the answer. Never raises for what an engine does.
    """
    measured, left = Measured(), list(choices)
    deadline = time.monotonic() + LIMIT_S
    while left and deadline - time.monotonic() > 0.05:
        job = {"bundle": str(bundle.resolve()), "choices": left, "threads": threads, "prove": prove}
        lines, code = _run(job, deadline)
        begun: Choice | None = None
        for line in lines:
            choice = Choice(*line["choice"])
            begun = None if "ms" in line or "cause" in line else choice
            if "ms" in line:
                measured.ms[choice] = line["ms"]
            elif "cause" in line:
                measured.broken[choice] = line["cause"]
        if begun is None or code is None:  # all were tried, or none could be, or time was up
            break
        measured.broken[begun] = f"its process ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}"
        left = left[left.index(begun) + 1 :]
    return measured


def _run(job: dict[str, Any], deadline: float) -> tuple[list[dict[str, Any]], int | None]:
    """The lines that the process wrote, and its exit code; None when its time was up, or it could not be started."""
    import subprocess  # here: a load that needs no calibration does not pay for it

    command, pipe = [sys.executable, "-m", "edgekit.runtimes.calibrate"], subprocess.PIPE
    try:
        process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment()
        )
    except (OSError, ValueError):
        return [], None
    with process:
        try:
            out, _ = process.communicate(json.dumps(job), timeout=max(0.0, deadline - time.monotonic()))
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            code = None
    lines = []
    for line in out.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break  # cut off by the kill
    return lines, code


def main() -> int:
    """The process: a job on stdin, a line for each thing done on stdout."""
    from edgekit.bundle import open_bundle
    from edgekit.runtimes.check import golden_of, prove
    from edgekit.runtimes.load import load_file

    job = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # an engine that prints must not spoil the answer

    def tell(**line: Any) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    bundle = open_bundle(job["bundle"], check_hashes=False)  # checked by who asks
    golden = golden_of(bundle)
    models = {model.path: model for model in bundle.manifest.every_model}
    for file, engine in job["choices"]:
        tell(choice=[file, engine])
        try:
            model = load_file(bundle, models[file], job["threads"], engine)
            if golden is not None and job["prove"]:
                prove(model, golden)
            tell(choice=[file, engine], ms=_typical_ms(model, golden.examples if golden else []))
        except Exception as error:
            tell(choice=[file, engine], cause=cause_of(error))
    return 0


def cause_of(error: Exception) -> str:
    """What went wrong, on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, EdgekitError) else f"{type(error).__name__}: {text}"


def _typical_ms(model: Model | DualModel, examples: list[Any]) -> float:
    """Geometric mean over a few examples, with short and long texts, of the median ms to answer one."""
    import numpy as np

    run: Callable[[Any], object] = model.run
    by_length = sorted(examples, key=lambda one: len(one if isinstance(one, str) else one[1]))
    if not by_length:
        by_length = ["a charming, funny film", "a film " * 10]
        if model.spec.pictures is not None:
            blank = np.zeros((240, 320, 3), np.uint8)
            by_length = [(blank, text) for text in by_length]
    places = np.linspace(0, len(by_length) - 1, min(EXAMPLES, len(by_length))).round().astype(int)
    picked = [by_length[i] for i in places]
    clock = time.perf_counter_ns
    samples: list[list[int]] = []
    until = clock() + int(SHARE_S * 1e9)
    while len(samples) < 3 or clock() < until:
        row = []
        for example in picked:
            began = clock()
            run(example)
            row.append(clock() - began)
        samples.append(row)
    return float(np.exp(np.log(np.median(samples[1:], axis=0)).mean()) / 1e6)


if __name__ == "__main__":
    sys.exit(main())
