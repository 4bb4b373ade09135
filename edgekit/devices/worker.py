"""The fresh process behind one row of a profile: JSON lines in on stdin, JSON lines out on stdout.

Imports nothing but the standard library before the clock starts, so that ``load_ms`` holds what a device pays.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError, EngineError

if TYPE_CHECKING:
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.model import Model

Say = Callable[[dict[str, Any]], None]
BACK = 2  # runs before those of a slice that count: others had the caches in between


def serve(job: dict[str, Any], requests: Iterable[str], say: Say) -> None:
    """Load what ``job`` names, say so, then answer each request for a slice of runs, and at the end with memory.

    ``job``: bundle, file, threads, batch, length, warmup, words; ``engine`` may name the engine and ``device`` the
    device; of a dual encoder ``tower`` says which one, ``pictures`` may name files for it and ``index`` one to search.
    A request: ``runs`` and ``seconds``, both of which are reached unless ``most`` runs come first; ``keep``: of more
    runs than that, only so many evenly spaced ones are told. Times in ms, memory in MB.
    """
    clock = time.perf_counter_ns
    began = clock()
    from edgekit.runtimes.load import load

    engine, device = job.get("engine", "auto"), job.get("device", "auto")
    model = load(job["bundle"], threads=job["threads"], engine=engine, file=job["file"], device=device)
    loaded = clock()
    from edgekit.devices.runner import runner
    from edgekit.devices.warm import warm_up

    names, run, tokens = runner(model, job)
    started = clock()
    run(0)
    first = clock() - started
    warmup, stable = warm_up(run, job["warmup"])
    say(
        {
            "engine": model.engine,
            "engine_version": model.engine_version,
            "precision": model.precision,
            "placed": _placed(model, job.get("tower", "")),
            "threads": model.threads,
            "tokens": tokens,
            "load_ms": (loaded - began) / 1e6,
            "first_ms": first / 1e6,
            "warmup": warmup,
            "warmup_stable": stable,
            "parts": names,
            **memory(),
        }
    )
    done = 0
    for line in requests:
        request = json.loads(line)
        if "end" in request:
            break
        found = _slice(run, done, request)
        done += found["all_runs"]
        say(found)
    say({**memory(), "pss_mb": pss_mb()})


def _placed(model: Model | DualModel, tower: str) -> dict[str, Any]:
    """What runs on which execution provider, where another than the CPU's was asked for."""
    found = model.placements.get(tower)
    if found is None or len(found.asked) == 1:
        return {}
    return {"gpu_share": found.gpu_share, "placement": found.to_dict()}


def _slice(run: Callable[[int], Any], done: int, request: dict[str, Any]) -> dict[str, Any]:
    """Runs without a pause: ``parts_ms`` of those that count, processor and wall time of them together."""
    runs, seconds, most = request["runs"], request["seconds"], request["most"]
    gc.collect()
    gc.disable()
    for number in range(BACK):
        run(done + number)
    parts: list[Any] = []
    here, step = 0, 1
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    stop = wall + int(seconds * 1e9)
    while here < runs or (here < most and time.perf_counter_ns() < stop):
        taken = run(done + BACK + here)
        if here % step == 0:
            parts.append(taken)
        here += 1
        if len(parts) >= 2 * request["keep"]:  # however long it takes, memory stays bounded
            parts, step = parts[::2], 2 * step
    wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
    gc.enable()
    thin = max(1, -(-len(parts) // request["keep"]))
    return {
        "parts_ms": [[part / 1e6 for part in row] for row in parts[::thin]],
        "runs": here,
        "all_runs": here + BACK,
        "wall_ms": wall / 1e6,
        "cpu_ms": cpu / 1e6,
    }


def examples(job: dict[str, Any]) -> dict[str, Any]:
    """Memory after ``examples`` were answered one by one."""
    from edgekit.devices.examples import from_json
    from edgekit.runtimes.load import load

    model = load(job["bundle"], threads=job["threads"], engine=job.get("engine", "auto"), file=job["file"])
    run: Callable[[Any], object] = model.run
    for one in job["examples"]:
        run(from_json(one))
    return dict(memory())


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


def memory() -> dict[str, float | None]:
    """Resident memory of this process now and at its peak, MB; None where the kernel does not tell."""
    found = _kilobytes("/proc/self/status", {"VmRSS": "rss_steady_mb", "VmHWM": "rss_mb"})
    return {"rss_steady_mb": None, "rss_mb": None, **found}


def pss_mb() -> float | None:
    """Memory of this process now, with pages that are shared counted in parts, MB. Not before Linux 4.14."""
    return _kilobytes("/proc/self/smaps_rollup", {"Pss": "pss_mb"}).get("pss_mb")


def _kilobytes(path: str, names: dict[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key in names:
                    found[names[key]] = round(int(value.split()[0]) * 1024 / 1e6, 1)
    except (OSError, ValueError, IndexError):
        pass
    return found


def main() -> int:
    """Read a job, print what comes of it, or ``{"error", "exit_code"}``."""
    job = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # an engine that prints must not spoil the answer

    def say(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    try:
        if "answers" in job:
            say(answers(job))
        elif "verify" in job:
            from edgekit.runtimes.verify import verify

            say(verify(job["verify"], device=job["device"]).to_dict())
        elif "examples" in job:
            say(examples(job))
        elif "ops" in job:
            from edgekit.devices.operators.work import operators

            say(operators(job))
        else:
            serve(job, sys.stdin, say)
    except EdgekitError as error:
        say({"error": str(error), "exit_code": error.exit_code})
    except BrokenPipeError:
        os._exit(1)  # whoever asked is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
