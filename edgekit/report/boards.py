"""Profiles as the boards of a report: what each may show, and whether it is of this bundle.

A profile of an emulator has no time that means anything, so none is taken over: no form of the report can show one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgekit.report import figures as f
from edgekit.report.histogram import histogram

LENGTH = 32  # tokens, to compare boards at; the middle of the measured lengths where it is not among them
_ROW = (
    *("engine", "engine_version", "file", "precision", "threads", "batch", "tower", "length", "tokens"),
    *("rss_mb", "rss_steady_mb", "pss_mb", "instructions_m"),
)
_PARTS = ("decode", "preprocess", "model", "postprocess", "search")
_TIMED = (
    *("runs", "warmup", "warmup_stable", "load_ms", "first_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms"),
    *("mean_ms", "mean_low_ms", "mean_high_ms", "jitter_ms", "cpu_ms", "utilisation", "energy_mj"),
    *(f"{part}_p50_ms" for part in _PARTS),
)
_SAID = ("basis", "board", "created", "bundle_sha256")


def boards(profiles: Iterable[dict[str, Any]], sha256: str, models: dict[str, str]) -> list[dict[str, Any]]:
    """A board for each profile of the published schema.

    ``sha256``: of the bundle's manifest.json; ``models``: path -> sha256 of its model files.
    """
    return [board(one, sha256, models) for one in profiles]


def board(profile: dict[str, Any], sha256: str, models: dict[str, str]) -> dict[str, Any]:
    """One profile: ``title``, ``via`` (local, ssh, browser), ``basis``, ``of`` (same, other, unknown), ``rows``, ...

    Of a profile with basis "emulated" everything that is a time, or follows from one, is left out.
    """
    timed = profile.get("basis", "measured") != "emulated"
    target = str(profile.get("target") or "local")
    environment = _dict(profile.get("environment"))
    rows = [_row(row, timed) for row in _dicts(profile.get("rows"))]
    found = {key: profile.get(key) or "" for key in _SAID}
    choice = _dict(profile.get("choice"))
    return {
        **found,
        "basis": "measured" if timed else "emulated",
        "timed": timed,
        "made": False,
        "title": f.plain_name(
            str(profile.get("board_title") or found["board"] or environment.get("cpu") or _unnamed(target))
        ),
        "via": target.partition(":")[0],  # the address of somebody's board is nobody else's business
        "bundle": Path(str(profile.get("bundle") or "")).name,
        "of": _whose(profile, sha256, models),
        "environment": environment if timed else {k: v for k, v in environment.items() if k not in _MOVING},
        "verified": _dict(profile.get("verified")),
        "rows": rows,
        "best": best(rows, choice),
        "choice": {k: choice[k] for k in ("engine", "file", "threads", "why") if k in choice and (timed or k != "why")},
        "failed": _dicts(profile.get("failed")),
        "sustain": _dict(profile.get("sustain")) if timed else {},
        "ops": _dicts(profile.get("ops")) if timed else [],
    }


_MOVING = ("frequency_mhz", "temperature_c", "load_average")  # of the machine that emulates


def made_here(environment: dict[str, Any], profiles: Sequence[dict[str, Any]], sha256: str) -> list[dict[str, Any]]:
    """The machine that made a bundle, of what its manifest tells: no board where it has no profile."""
    if not profiles:
        return []
    rows = []
    for one in profiles:
        rss = one.get("rss_bytes")
        rows.append({**one, "rss_mb": rss / 1e6 if isinstance(rss, int | float) else None})
    profile = {"environment": environment, "rows": rows, "choice": profiles[0], "bundle_sha256": sha256}
    found = board(profile, sha256, {})
    return [{**found, "made": True, "title": f"{found['title']}, when made"}]


def distinct(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Boards of the same title are numbered, so that rows and plots can name them."""
    seen: dict[str, int] = {}
    named = []
    for one in found:
        seen[one["title"]] = number = seen.get(one["title"], 0) + 1
        named.append({**one, "title": f"{one['title']} ({number})"} if number > 1 else one)
    return named


def reference(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows to compare boards by: the smallest batch, one length (:data:`LENGTH` if it was measured), every file."""
    least = min((row.get("batch") or 1 for row in rows), default=1)
    rows = [row for row in rows if (row.get("batch") or 1) == least]
    lengths = sorted({row["length"] for row in rows if row.get("length") is not None})
    length = LENGTH if LENGTH in lengths else lengths[len(lengths) // 2] if lengths else None
    return [row for row in rows if row.get("length") in (None, length)]


def best(rows: Sequence[dict[str, Any]], choice: dict[str, Any]) -> dict[str, Any]:
    """The row that stands for a board: of its choice, else of the least p50, else the first; {} without rows."""
    wanted = [choice.get(key) for key in ("engine", "file", "threads")]
    among = reference(rows)
    chosen = [row for row in among if [row.get(key) for key in ("engine", "file", "threads")] == wanted]
    times = [row for row in among if isinstance(row.get("p50_ms"), int | float)]
    return next(iter(chosen), None) or min(times, key=lambda row: float(row["p50_ms"]), default=None) or _first(among)


def shown(one: dict[str, Any], most: int = 12) -> list[dict[str, Any]]:
    """A row for each file, engine and tower of a board, on the threads of its best one: what its pictures show."""
    threads = one["best"].get("threads")
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in sorted(reference(one["rows"]), key=lambda row: row.get("threads") != threads):
        found.setdefault((row.get("engine"), row.get("file"), row.get("tower")), row)
    return list(found.values())[:most]


def label(row: dict[str, Any]) -> str:
    """Words for what a row ran: ``litert w8a8``, of a dual encoder with its tower."""
    parts = [row.get("engine"), row.get("precision"), row.get("tower") and f"({row['tower']})"]
    return " ".join(str(part) for part in parts if part) or str(row.get("file") or "")


def _row(row: dict[str, Any], timed: bool) -> dict[str, Any]:
    kept = {key: row[key] for key in (*_ROW, *(_TIMED if timed else ())) if key in row}
    samples = row.get("samples_ms")
    if timed and isinstance(samples, list) and samples:
        kept["histogram"] = histogram(samples)
    return kept


def _whose(profile: dict[str, Any], sha256: str, models: dict[str, str]) -> str:
    """Signing or a new release changes the manifest and no model file: what was measured is still this."""
    given, files = profile.get("bundle_sha256"), _dict(profile.get("files"))
    if given == sha256 or (models and all(files.get(path) == one for path, one in models.items())):
        return "same"
    return "other" if given or files else "unknown"


def _unnamed(target: str) -> str:
    return "a browser" if target == "browser" else "a machine that the profile does not name"


def _first(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return rows[0] if rows else {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
