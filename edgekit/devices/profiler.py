"""Latency and memory of a bundle on this machine. Each row is measured in a fresh process of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import Bundle, open_bundle
from edgekit.devices.child import run_child
from edgekit.devices.probe import environment
from edgekit.errors import EngineError, InputError, MissingDependencyError
from edgekit.progress import Progress, Silent
from edgekit.runtimes import engines
from edgekit.runtimes.choose import Choice, pip_line

LENGTHS = (16, 32, 128)
WORDS = ["the", "film", "was", "a", "quiet", "surprise", "and", "we", "stayed", "until", "its", "very", "end"]


@dataclass(frozen=True)
class Profile:
    """``rows`` as the design's JSON has them; ``environment`` of :func:`edgekit.devices.probe.environment`.

    ``choice``: the engine, file and threads that did best, and why; ``failed``: file, engine and cause of what could
    not be measured.
    """

    bundle: str
    environment: dict[str, Any]
    rows: list[dict[str, Any]]
    choice: dict[str, Any]
    failed: list[dict[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with ``schema_version``."""
        return {
            "schema_version": 1,
            "bundle": self.bundle,
            "basis": "measured",
            "environment": self.environment,
            "rows": self.rows,
            "choice": self.choice,
            "failed": self.failed,
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
    progress: Progress = Silent(),
) -> Profile:
    """Measure every combination of model file, ``threads``, ``batches`` and ``lengths`` (tokens, special ones too).

    ``lengths`` None takes 16, 32 and 128, up to the model's longest window. ``files`` None takes those whose engine is
    installed; ``engine`` (one or several) and ``precisions`` narrow that. A row's times are ms over ``runs`` after
    ``warmup``; ``load_ms`` starts before the first import; ``rss_mb`` is the process's peak, ``rss_steady_mb`` what it
    holds after the runs. A dual encoder has rows of its ``tower`` "image" (of ``pictures``, files, else of the golden
    ones as JPEGs, with the time to decode them) and, if it has one, "text"; with ``index`` each ends with a search
    of it. What fails in its engine is told in ``failed`` and the rest goes on.
    Raises InputError, BundleError, MissingDependencyError, EngineError when nothing could be measured.
    """
    bundle = open_bundle(path)
    longest = bundle.manifest.task.max_length
    few = () if bundle.manifest.task.fixed_length else LENGTHS
    wanted = [n for n in few if n <= longest] or [longest] if lengths is None else list(lengths)
    dual = _dual(bundle, pictures, index)
    for name, values, most in (("threads", threads, 1024), ("batch", batches, 4096), ("lengths", wanted, longest)):
        for value in values:
            if not 1 <= value <= most:
                raise InputError(f"--{name}", found=value, expected=f"1 to {most}")
    if runs < 1 or warmup < 0:
        raise InputError("--runs and --warmup", found=f"{runs} and {warmup}", expected="at least 1 and 0")
    chosen = _choices(bundle, files, [engine] if isinstance(engine, str) else list(engine), precisions)
    words = _words(bundle)
    grid = [
        (choice, count, batch, inputs)
        for choice, count, batch in itertools.product(chosen, threads, batches)
        for inputs in _inputs(bundle, choice, wanted)
    ]
    seen, rows = environment(), []
    failed: dict[Choice, str] = {}
    handle = progress.start("profile", len(grid))
    for choice, count, batch, inputs in grid:
        job = {
            "bundle": str(bundle.root),
            "file": choice.file,
            "engine": choice.engine,
            "threads": count,
            "batch": batch,
            **inputs,
            **dual,
            "runs": runs,
            "warmup": warmup,
            "words": words,
        }
        if choice not in failed:
            try:
                rows.append(_row(job, run_child(job)))
            except EngineError as error:
                failed[choice] = str(error)
        progress.advance(handle, note=f"{choice.engine}, {choice.file}, {count} threads, {_told(inputs)}")
    progress.finish(handle)
    rows = [row for row in rows if Choice(row["file"], row["engine"]) not in failed]
    causes = [{**one._asdict(), "cause": cause} for one, cause in failed.items()]
    if not rows:
        told = "; ".join(f"{one['engine']} ({one['file']}): {one['cause']}" for one in causes)
        raise EngineError(f"nothing of {bundle.root.name} could be measured", found=told, fix="See `edgekit doctor`.")
    late = {model.path for model in bundle.manifest.every_model if model.failed}
    return Profile(str(path), seen, rows, best(rows, late), causes)


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


def _choices(
    bundle: Bundle, files: Sequence[str] | None, asked: list[str], precisions: Sequence[str] | None
) -> list[Choice]:
    """What to measure, in the order of ``asked`` engines, then of the manifest."""
    manifest, wanted = bundle.manifest, [] if "auto" in asked else asked
    models = manifest.models if files is None else manifest.every_model
    readers = {model.path: engines.readers(model.engine) for model in models}
    for kind, names, have in (
        ("engine", wanted, {name for model in models for name in readers[model.path] or [model.engine]}),
        ("precision", precisions or [], {model.precision for model in models}),
    ):
        for name in names:
            if name not in have:
                raise InputError(
                    f"{kind} {name}", found=f"none in {bundle.root.name}", expected=", ".join(sorted(have))
                )
    models = [model for model in models if not precisions or model.precision in precisions]
    models = [model for model in models if not wanted or set(wanted) & set(readers[model.path])]
    if files is not None:
        known = {model.path for model in models}
        for name in files:
            if name not in known:
                raise InputError(f"model file {name}", expected=", ".join(sorted(known)) or "none for this engine")
        models = [model for model in models if model.path in files]
    for name in wanted:
        if not engines.installed(name):
            raise MissingDependencyError(f"engine {name}", found="not installed", fix=pip_line(name))
    chosen = [Choice(model.path, name) for name in wanted for model in models if name in readers[model.path]]
    if not wanted:
        here = {model.path: next(filter(engines.installed, readers[model.path]), None) for model in models}
        chosen = [Choice(path, name) for path, name in here.items() if name]
    if not chosen:
        named = sorted({model.engine for model in models})
        raise MissingDependencyError(
            f"no installed engine runs {bundle.root.name}", expected=", ".join(named), fix=pip_line(named[0])
        )
    return chosen


def _dual(bundle: Bundle, pictures: Sequence[str | Path], index: str | Path | None) -> dict[str, Any]:
    """What only a dual encoder's jobs have. Raises ``InputError`` where other bundles are given it."""
    given: dict[str, Any] = {"pictures": [str(one) for one in pictures]} if pictures else {}
    given |= {"index": str(index)} if index is not None else {}
    if given and bundle.manifest.task.task != "clip":
        raise InputError(", ".join(given), found=f"a bundle of task {bundle.manifest.task.task}", expected="clip")
    return given


def _inputs(bundle: Bundle, choice: Choice, lengths: Sequence[int]) -> list[dict[str, Any]]:
    """What each row of ``choice`` is given: texts of a length; of a dual encoder, pictures too."""
    model = next(one for one in bundle.manifest.every_model if one.path == choice.file)
    if not model.towers:
        return [{"length": length} for length in lengths]
    texts = [{"tower": "text", "length": length} for length in lengths] if "text" in model.towers else []
    return [{"tower": "image", "length": None}, *texts]


def _told(inputs: dict[str, Any]) -> str:
    return "pictures" if inputs["length"] is None else f"{inputs['length']} tokens"


def _words(bundle: Bundle) -> list[str]:
    texts = bundle.manifest.golden.get("texts")
    words = " ".join(text for text in texts if isinstance(text, str)).split() if isinstance(texts, list) else []
    return list(dict.fromkeys(word for word in words if len(word) < 20))[:400] or WORDS


def _row(job: dict[str, Any], taken: dict[str, Any]) -> dict[str, Any]:
    parts = np.array(taken["parts_ms"])
    total = parts.sum(axis=1)
    p50, p90, p95, p99 = np.percentile(total, [50, 90, 95, 99])
    medians = dict(zip(taken["parts"], np.median(parts, axis=0), strict=True))
    numbers = {
        "load_ms": taken["load_ms"],
        "first_ms": taken["first_ms"],
        "p50_ms": p50,
        "p90_ms": p90,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": total.max(),
        **{f"{part}_p50_ms": median for part, median in medians.items()},
    }
    return {
        "engine": taken["engine"],
        "engine_version": taken["engine_version"],
        "file": job["file"],
        "precision": taken["precision"],
        "threads": taken["threads"],
        "batch": job["batch"],
        **({"tower": job["tower"]} if "tower" in job else {}),
        "length": job["length"],
        "tokens": taken["tokens"],
        "runs": job["runs"],
        "warmup": job["warmup"],
        **{key: round(float(value), 4) for key, value in numbers.items()},
        "rss_mb": taken["rss_mb"],
        "rss_steady_mb": taken["rss_steady_mb"],
        "samples_ms": [round(float(value), 4) for value in total],
    }
