"""Latency and memory of a bundle on this machine. docs/profile.md has the protocol.

A board runs this: it imports the standard library, numpy and the runtime, and no more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import Bundle, open_bundle
from edgekit.devices import select
from edgekit.devices import sustain as long
from edgekit.devices.boards import identify, look
from edgekit.devices.child import run_child
from edgekit.devices.operators import measure as operators
from edgekit.devices.probe import environment
from edgekit.devices.stats import mean_interval
from edgekit.devices.turns import ROUNDS, Taken, in_turns
from edgekit.errors import EngineError, InputError
from edgekit.progress import Progress, Silent
from edgekit.runtimes import engines
from edgekit.runtimes.choose import Choice
from edgekit.runtimes.device import place_of

MOST_RUNS, MOST_S = 100_000, 3600.0


@dataclass(frozen=True)
class Profile:
    """What docs/profile.schema.json describes; ``environment`` of :func:`edgekit.devices.probe.environment`.

    ``choice``: the engine, file and threads that did best, and why; ``failed``: file, engine and cause of what could
    not be measured; ``files``: sha256 of each file of the bundle; ``sustain``: :func:`edgekit.devices.sustain.sustain`;
    ``ops``: :func:`edgekit.devices.operators.measure.measure`; ``verified``: what :func:`edgekit.verify` found here.
    """

    bundle: str
    environment: dict[str, Any]
    rows: list[dict[str, Any]]
    choice: dict[str, Any]
    failed: list[dict[str, str]]
    bundle_sha256: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    board: str = ""
    sustain: dict[str, Any] | None = None
    ops: Sequence[dict[str, Any]] = ()
    verified: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with ``schema_version``."""
        return {
            "schema_version": 1,
            "bundle": self.bundle,
            "bundle_sha256": self.bundle_sha256,
            "files": dict(self.files),
            "basis": "measured",
            "created": self.created,
            "target": "local",
            "board": self.board,
            "environment": self.environment,
            "interleaved": len({row["group"] for row in self.rows}) == 1,
            "rows": self.rows,
            "choice": self.choice,
            "failed": self.failed,
            "verified": self.verified,
            "sustain": self.sustain,
            "ops": list(self.ops),
        }


def profile(
    path: str | Path,
    threads: Sequence[int] = (1,),
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] = (1,),
    files: Sequence[str] | None = None,
    engine: str | Sequence[str] = "auto",
    precisions: Sequence[str] | None = None,
    runs: int = 200,
    warmup: int = 20,
    pictures: Sequence[str | Path] = (),
    index: str | Path | None = None,
    device: str = "auto",
    progress: Progress = Silent(),
    *,
    seconds: float = 1.0,
    sustain: float | None = None,
    allow_hot: bool = False,
    ops: bool = False,
    verified: dict[str, Any] | None = None,
    root: Path = Path("/"),
) -> Profile:
    """Measure every combination of model file, ``threads``, ``batches`` and ``lengths`` (tokens, special ones too).

    ``lengths`` None takes 16, 32 and 128, up to the model's longest window. ``files`` None takes those whose engine is
    installed; ``engine`` (one or several) and ``precisions`` narrow that. Each row has a process of its own, which
    warms up with ``warmup`` runs and on until times are level, then takes turns with the others; its times are ms of at
    least ``runs`` runs and ``seconds``. ``load_ms`` starts before the first import; ``rss_mb`` is the process's peak,
    ``rss_steady_mb`` what it holds after the runs. A dual encoder has rows of its ``tower`` "image" (of ``pictures``,
    files, else of the golden ones as JPEGs, with the time to decode them) and, if it has one, "text"; with ``index``
    each ends with a search of it. ``device`` as for :func:`edgekit.load`; rows that asked for a GPU have ``gpu_share``,
    the share of nodes that it has, and ``placement``. What fails in its engine is told in ``failed``, the rest goes on.

    ``sustain``: then run what did best, with its longest input, for so many seconds; a board that is hot is refused
    before anything is measured, unless ``allow_hot``. ``ops``: then the time of each operator of each file, in a
    process of its own. ``verified``: what a verification here has told already; without it the bundle is verified
    first, in a process of its own, and measured whatever comes of it. ``root``: where /proc and /sys are.
    Raises InputError, BundleError, MissingDependencyError, EngineError when nothing could be measured.
    """
    bundle = open_bundle(path)
    place_of(bundle, device)
    if device not in ("auto", "cpu") and engine == "auto":
        engine = engines.ON_GPU
    jobs = select.jobs(bundle, threads, lengths, batches, files, engine, precisions, pictures, index)
    check_runs(runs, warmup, seconds)
    if sustain is not None:
        long.check_seconds(sustain)
        long.check_cool(root, allow_hot)
    seen = environment(root)
    started = created()
    verified = verified or _verified(bundle, device, progress)
    handle = progress.start("profile", len(jobs) * (min(ROUNDS, runs) + 1))
    # Side by side in their groups: what differs in nothing but its engine, file or threads.
    order = sorted(range(len(jobs)), key=lambda place: [jobs[place][key] or 0 for key in ("length", "batch")])

    def told(place: int, what: str) -> None:
        progress.advance(handle, note=f"{select.told(jobs[order[place]])}: {what}")

    asked = [{**jobs[place], "device": device, "warmup": warmup} for place in order]
    taken, broken = in_turns(asked, runs, seconds, root=root, told=told)
    progress.finish(handle)
    found = dict(zip(order, taken, strict=True))
    rows = [_row(job, one) for place, job in enumerate(jobs) if (one := found[place]) and _choice(job) not in broken]
    causes = [{"file": file, "engine": name, "cause": cause} for (file, name), cause in broken.items()]
    if not rows:
        listed = "; ".join(f"{one['engine']} ({one['file']}): {one['cause']}" for one in causes)
        raise EngineError(f"nothing of {bundle.root.name} could be measured", found=listed, fix="See `edgekit doctor`.")
    late = {model.path for model in bundle.manifest.every_model if model.failed}
    choice, endured = best(rows, late), None
    if sustain is not None:
        hard = _hardest(jobs, choice)
        try:  # it was cool when all began; what the sweep heated is told as start_c
            endured = long.sustain(hard, sustain, root=root, allow_hot=True, progress=progress)
        except EngineError as error:
            causes.append({"file": hard["file"], "engine": hard["engine"], "cause": f"sustained: {error}"})
    return Profile(
        str(path),
        seen,
        rows,
        choice,
        causes,
        manifest_sha256(bundle),
        {entry.path: entry.sha256 for entry in bundle.manifest.files},
        started,
        board_of(root),
        endured,
        operators.measure(operators.wanted(jobs), progress=progress) if ops else (),
        verified,
    )


def _verified(bundle: Bundle, device: str, progress: Progress) -> dict[str, Any]:
    progress.say("verifying")
    try:
        return run_child({"verify": str(bundle.root), "device": device})
    except EngineError as error:  # an engine took the process with it
        return {"ok": False, "checks": [{"name": "verify", "ok": False, "detail": str(error)}]}


def check_runs(runs: int, warmup: int, seconds: float) -> None:
    """Raises ``InputError`` for what no profile can hold."""
    if not (1 <= runs <= MOST_RUNS and 0 <= warmup <= MOST_RUNS):
        expected = f"at least 1 and 0, at most {MOST_RUNS}"
        raise InputError("--runs and --warmup", found=f"{runs} and {warmup}", expected=expected)
    if not 0 <= seconds <= MOST_S:
        raise InputError("--seconds", found=seconds, expected=f"0 to {MOST_S:g}")


def manifest_sha256(bundle: Bundle) -> str:
    """Of manifest.json, which holds the hashes of all other files."""
    return hashlib.sha256((bundle.root / "manifest.json").read_bytes()).hexdigest()


def created() -> str:
    """Now, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def board_of(root: Path) -> str:
    """The name of the board file that the machine below ``root`` is, "" for a machine that is none."""
    board = identify(look(root))
    return "" if board is None else board.key


def best(rows: Sequence[dict[str, Any]], late: Set[str] = frozenset()) -> dict[str, Any]:
    """``engine``, ``file`` and ``threads`` with the least p50, and ``why``. Files of ``late`` count if none else is.

    Over several lengths p50 is their geometric mean; of several batch sizes the least counts.
    """
    rows = [row for row in rows if row["file"] not in late] or list(rows)
    least = min(row["batch"] for row in rows)
    times: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        if row["batch"] == least:
            times.setdefault((row["engine"], row["file"], row["threads"]), []).append(row["p50_ms"])
    mean = {key: float(np.exp(np.log(values).mean())) for key, values in times.items()}
    ranked = sorted(mean, key=lambda key: (mean[key], key[2]))
    first = ranked[0]
    lengths = sorted({row["length"] for row in rows if row["length"] is not None})
    given = f"{', '.join(map(str, lengths))} tokens"
    if any(row.get("tower") == "image" for row in rows):
        given = f"a picture and a text of {given}, geometric mean" if lengths else "a picture"
    why = f"the least p50 of {len(ranked)} measured, {mean[first]:.2f} ms at {given}"
    other = next((key for key in ranked if key[:2] != first[:2]), None)
    if other:
        why += f"; next {other[0]}, {other[1]}, threads {other[2]}: {mean[other]:.2f} ms"
    for same in ranked[1:]:
        if same[:2] == first[:2]:
            why += f"; on threads {same[2]}: {mean[same]:.2f} ms"
    return {"engine": first[0], "file": first[1], "threads": first[2], "why": why}


def _choice(job: dict[str, Any]) -> Choice:
    return Choice(job["file"], job["engine"])


def _hardest(jobs: Sequence[dict[str, Any]], choice: dict[str, Any]) -> dict[str, Any]:
    """Of the jobs of ``choice``, the one with pictures or else the longest input, at the smallest batch."""
    fits = [job for job in jobs if all(job[key] == choice[key] for key in ("file", "engine", "threads"))]
    return min(fits, key=lambda job: (job["batch"], job["length"] is not None, -(job["length"] or 0)))


def _row(job: dict[str, Any], taken: Taken) -> dict[str, Any]:
    ready, slices, end = taken.ready, taken.slices, taken.end
    parts = np.array([row for one in slices for row in one["parts_ms"]])
    total = parts.sum(axis=1)
    p50, p90, p95, p99 = np.percentile(total, [50, 90, 95, 99])
    mean, low, high = mean_interval(total)
    runs, wall, cpu = (sum(one[key] for one in slices) for key in ("runs", "wall_ms", "cpu_ms"))
    medians = dict(zip(ready["parts"], np.median(parts, axis=0), strict=True))
    numbers = {
        "load_ms": ready["load_ms"],
        "first_ms": ready["first_ms"],
        "p50_ms": p50,
        "p90_ms": p90,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": total.max(),
        "mean_ms": mean,
        "mean_low_ms": low,
        "mean_high_ms": high,
        "jitter_ms": p95 - p50,
        **{f"{part}_p50_ms": median for part, median in medians.items()},
        "cpu_ms": cpu / runs,
        "utilisation": cpu / wall / ready["threads"],
    }
    energy = [one for one in taken.energy_mj if one is not None]
    every = sum(one["all_runs"] for one in slices)
    return {
        "engine": ready["engine"],
        "engine_version": ready["engine_version"],
        "file": job["file"],
        "precision": ready["precision"],
        **ready["placed"],
        "threads": ready["threads"],
        "batch": job["batch"],
        **({"tower": job["tower"]} if "tower" in job else {}),
        "length": job["length"],
        "tokens": ready["tokens"],
        "group": taken.group,
        "runs": runs,
        "warmup": ready["warmup"],
        "warmup_stable": ready["warmup_stable"],
        **{key: round(float(value), 4) for key, value in numbers.items()},
        **{key: end[key] for key in ("rss_mb", "rss_steady_mb", "pss_mb")},
        "energy_mj": round(sum(energy) / every, 4) if len(energy) == len(slices) else None,
        "energy_source": taken.energy_source,
        "samples_ms": [round(float(value), 4) for value in total],
    }
