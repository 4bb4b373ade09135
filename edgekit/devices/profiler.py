"""Latency and memory of a bundle on this machine. Each row is measured in a fresh process of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bundle import Bundle, open_bundle
from edgekit.devices.child import run_child
from edgekit.devices.probe import environment
from edgekit.errors import InputError, MissingDependencyError
from edgekit.progress import Progress, Silent
from edgekit.runtimes import engines

LENGTHS = (16, 32, 128)
WORDS = ["the", "film", "was", "a", "quiet", "surprise", "and", "we", "stayed", "until", "its", "very", "end"]


@dataclass(frozen=True)
class Profile:
    """``rows`` as the design's JSON has them; ``environment`` of :func:`edgekit.devices.probe.environment`."""

    bundle: str
    environment: dict[str, Any]
    rows: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with ``schema_version``."""
        return {
            "schema_version": 1,
            "bundle": self.bundle,
            "basis": "measured",
            "environment": self.environment,
            "rows": self.rows,
        }


def profile(
    path: str | Path,
    threads: Sequence[int] = (1,),
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] = (1,),
    files: Sequence[str] | None = None,
    engine: str = "auto",
    precisions: Sequence[str] | None = None,
    runs: int = 200,
    warmup: int = 20,
    progress: Progress = Silent(),
) -> Profile:
    """Measure every combination of model file, ``threads``, ``batches`` and ``lengths`` (tokens, special ones too).

    ``lengths`` None takes 16, 32 and 128, up to the model's longest window. ``files`` None takes those whose engine is
    installed; ``engine`` and ``precisions`` narrow that. A row's times are ms over ``runs`` after ``warmup``;
    ``load_ms`` starts before the first import; ``rss_mb`` is the process's peak, ``rss_steady_mb`` what it holds after
    the runs.
    Raises InputError, BundleError, EngineError.
    """
    bundle = open_bundle(path)
    longest = bundle.manifest.task.max_length
    wanted = [n for n in LENGTHS if n <= longest] or [longest] if lengths is None else list(lengths)
    for name, values, most in (("threads", threads, 1024), ("batch", batches, 4096), ("lengths", wanted, longest)):
        for value in values:
            if not 1 <= value <= most:
                raise InputError(f"--{name}", found=value, expected=f"1 to {most}")
    if runs < 1 or warmup < 0:
        raise InputError("--runs and --warmup", found=f"{runs} and {warmup}", expected="at least 1 and 0")
    chosen = _files(bundle, files, engine, precisions)
    words = _words(bundle)
    grid = list(itertools.product(chosen, threads, batches, wanted))
    seen, rows = environment(), []
    handle = progress.start("profile", len(grid))
    for file, count, batch, length in grid:
        job = {
            "bundle": str(bundle.root),
            "file": file,
            "threads": count,
            "batch": batch,
            "length": length,
            "runs": runs,
            "warmup": warmup,
            "words": words,
        }
        rows.append(_row(job, run_child(job)))
        progress.advance(handle, note=f"{file}, {count} threads, {length} tokens")
    progress.finish(handle)
    return Profile(str(path), seen, rows)


def _files(bundle: Bundle, files: Sequence[str] | None, engine: str, precisions: Sequence[str] | None) -> list[str]:
    models = bundle.manifest.models
    for kind, asked, have in (
        ("engine", [] if engine == "auto" else [engine], {model.engine for model in models}),
        ("precision", precisions or [], {model.precision for model in models}),
    ):
        for name in asked:
            if name not in have:
                raise InputError(
                    f"{kind} {name}", found=f"none in {bundle.root.name}", expected=", ".join(sorted(have))
                )
    offered = [m for m in models if engine in ("auto", m.engine) and (not precisions or m.precision in precisions)]
    if files is not None:
        known = {model.path for model in offered}
        for name in files:
            if name not in known:
                raise InputError(f"model file {name}", expected=", ".join(sorted(known)) or "none for this engine")
        return list(files)
    runnable = [model.path for model in offered if engines.installed(model.engine)]
    if not runnable:
        wanted = ", ".join(sorted({model.engine for model in offered})) or engine
        raise MissingDependencyError(
            f"no installed engine runs {bundle.root.name}", expected=wanted, fix=f"pip install 'edgekit[{wanted}]'"
        )
    return runnable


def _words(bundle: Bundle) -> list[str]:
    texts = bundle.manifest.golden.get("texts")
    words = " ".join(text for text in texts if isinstance(text, str)).split() if isinstance(texts, list) else []
    return list(dict.fromkeys(word for word in words if len(word) < 20))[:400] or WORDS


def _row(job: dict[str, Any], taken: dict[str, Any]) -> dict[str, Any]:
    parts = np.array(taken["parts_ms"])
    total = parts.sum(axis=1)
    p50, p90, p95, p99 = np.percentile(total, [50, 90, 95, 99])
    before, model, after = np.median(parts, axis=0)
    numbers = {
        "load_ms": taken["load_ms"],
        "first_ms": taken["first_ms"],
        "p50_ms": p50,
        "p90_ms": p90,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": total.max(),
        "preprocess_p50_ms": before,
        "model_p50_ms": model,
        "postprocess_p50_ms": after,
    }
    return {
        "engine": taken["engine"],
        "engine_version": taken["engine_version"],
        "file": job["file"],
        "precision": taken["precision"],
        "threads": taken["threads"],
        "batch": job["batch"],
        "length": job["length"],
        "tokens": taken["tokens"],
        "runs": job["runs"],
        "warmup": job["warmup"],
        **{key: round(float(value), 4) for key, value in numbers.items()},
        "rss_mb": taken["rss_mb"],
        "rss_steady_mb": taken["rss_steady_mb"],
        "samples_ms": [round(float(value), 4) for value in total],
    }
