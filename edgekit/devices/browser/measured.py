"""What a page measured, checked and made into a profile. A page sends raw samples; the figures are made here."""

from __future__ import annotations

import platform
import re
from functools import cache
from typing import Any

import numpy as np

from edgekit._version import __version__
from edgekit.bundle import Bundle
from edgekit.bundle import manifest as manifests
from edgekit.devices.boards.load import load, names
from edgekit.devices.profiler import best, created, manifest_sha256
from edgekit.devices.stats import mean_interval
from edgekit.errors import BundleError, InputError

MAX_BYTES = 4 << 20
MAX_ROWS, MAX_RUNS, MAX_TEXT = 200, 5000, 400
MAX_MS = 1e7
PARTS = ("preprocess", "model", "postprocess")


@cache
def phones() -> dict[str, str]:
    """Names of the known phones by board."""
    found = {key: load(key) for key in names()}
    return {key: board.name for key, board in found.items() if board.kind == "phone"}


def profile_of(data: bytes, bundle: Bundle, engines: dict[str, str]) -> dict[str, Any]:
    """The profile that the page's ``data``, JSON, amounts to. ``engines``: versions of the web engines, by name.

    What the page says of bundle, versions and figures is not taken from it. A browser that a program drives is no
    phone, so its profile is "emulated". Raises ``InputError`` naming the field that is wrong.
    """
    try:
        posted = manifests.load_json(data, "profile", MAX_BYTES)
    except BundleError as error:
        raise InputError(error.what, found=error.found, expected=error.expected) from None
    page = _object(posted, "profile")
    models = {model.path: model for model in bundle.manifest.models}
    given = _list(page.get("rows"), "rows", MAX_ROWS)
    rows = [_row(_object(one, f"rows[{i}]"), f"rows[{i}]", models, engines) for i, one in enumerate(given)]
    if not rows:
        raise InputError("rows", found="none", expected="at least one")
    failed = [
        {key: _text(one.get(key), f"failed: {key}") for key in ("file", "engine", "cause")}
        for one in (_object(each, "failed") for each in _list(page.get("failed", []), "failed", MAX_ROWS))
    ]
    checks = [
        {
            "name": _text(one.get("name"), "checks: name"),
            "ok": _flag(one.get("ok"), "checks: ok"),
            "detail": _text(one.get("detail"), "checks: detail"),
        }
        for one in (_object(each, "checks") for each in _list(page.get("checks"), "checks", MAX_ROWS))
    ]
    seen = _object(page.get("environment"), "environment")
    board = _text(page.get("board", ""), "board")
    if board and board not in phones():
        raise InputError("board", found=repr(board)[:60], expected="a known phone, or nothing")
    automated = _flag(seen.get("automated"), "environment: automated")
    late = {model.path for model in models.values() if model.failed}
    return {
        "schema_version": 1,
        "bundle": bundle.manifest.name,
        "bundle_sha256": manifest_sha256(bundle),
        "created": created(),
        "basis": "emulated" if automated else "measured",
        "target": "browser",
        "board": board,
        "environment": _environment(seen, board, engines),
        "verified": {"ok": bool(checks) and all(check["ok"] for check in checks), "checks": checks},
        "rows": rows,
        "choice": best(rows, late),
        "failed": failed,
        "sustain": None,
        "ops": [],
    }


def slug(profile: dict[str, Any]) -> str:
    """What the profile's file calls its board: the board's key, else the model that the browser tells, else browser."""
    told = profile["board"] or profile["environment"]["model"]
    return re.sub(r"[^a-z0-9]+", "-", told.lower()).strip("-")[:40] or "browser"


def _environment(seen: dict[str, Any], board: str, engines: dict[str, str]) -> dict[str, Any]:
    model = _text(seen.get("model", ""), "environment: model")
    cores, automated = seen.get("cores"), _flag(seen.get("automated"), "environment: automated")
    return {
        "cpu": load(board).socs[0].name if board and not automated else None,
        "architecture": None,
        "isa": "wasm-simd128",
        "cpus": cores if type(cores) is int and 0 < cores < 4096 else None,
        "model": model,
        "os": _text(seen.get("os", ""), "environment: os") or None,
        "browser": _text(seen.get("browser", ""), "environment: browser"),
        "user_agent": _text(seen.get("user_agent"), "environment: user_agent"),
        "isolated": _flag(seen.get("isolated"), "environment: isolated"),
        "automated": automated,
        "hidden": _flag(seen.get("hidden"), "environment: hidden"),
        "clock_ms": _number(seen.get("clock_ms"), "environment: clock_ms"),
        "screen": _text(seen.get("screen", ""), "environment: screen"),
        "edgekit": __version__,
        "python": None,
        "host": f"{platform.system()} {platform.machine()}",
        "versions": engines,
    }


def _row(row: dict[str, Any], where: str, models: dict[str, Any], engines: dict[str, str]) -> dict[str, Any]:
    engine, file = _text(row.get("engine"), f"{where}: engine"), _text(row.get("file"), f"{where}: file")
    if engine not in engines:
        raise InputError(f"{where}: engine", found=repr(engine)[:60], expected=", ".join(engines))
    if file not in models:
        raise InputError(f"{where}: file", found=repr(file)[:60], expected="a model file of the bundle")
    tower = row.get("tower")
    if tower not in (None, "image", "text"):
        raise InputError(f"{where}: tower", found=repr(tower)[:60], expected="image or text")
    parts = _object(row.get("parts_ms"), f"{where}: parts_ms")
    columns = [_samples(parts.get(part), f"{where}: parts_ms: {part}") for part in PARTS]
    if len({len(column) for column in columns}) != 1:
        raise InputError(f"{where}: parts_ms", found="lists of several lengths", expected="one length")
    total = np.array(columns).sum(axis=0)
    p50, p90, p95, p99 = np.percentile(total, [50, 90, 95, 99])
    mean, low, high = mean_interval(total)
    times = {
        "load_ms": _number(row.get("load_ms"), f"{where}: load_ms"),
        "first_ms": _number(row.get("first_ms"), f"{where}: first_ms"),
        **{"p50_ms": p50, "p90_ms": p90, "p95_ms": p95, "p99_ms": p99, "max_ms": total.max()},
        **{"mean_ms": mean, "mean_low_ms": low, "mean_high_ms": high, "jitter_ms": p95 - p50},
        **{f"{part}_p50_ms": np.median(column) for part, column in zip(PARTS, columns, strict=True)},
    }
    return {
        "engine": engine,
        "engine_version": engines[engine],
        "file": file,
        "precision": models[file].precision,
        "threads": _count(row.get("threads"), f"{where}: threads", 1, 256),
        "batch": 1,
        **({"tower": tower} if tower else {}),
        "length": None if tower == "image" else _count(row.get("length"), f"{where}: length", 1, 1 << 20),
        "tokens": None if tower == "image" else _count(row.get("tokens"), f"{where}: tokens", 1, 1 << 20),
        "runs": len(total),
        "warmup": _count(row.get("warmup"), f"{where}: warmup", 0, MAX_RUNS),
        "warmup_stable": _flag(row.get("warmup_stable"), f"{where}: warmup_stable"),
        **{key: round(float(value), 4) for key, value in times.items()},
        "rss_mb": None,
        "rss_steady_mb": None,
        "samples_ms": [round(float(value), 4) for value in total],
    }


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(where, found=repr(value)[:60], expected="an object")
    return value


def _list(value: object, where: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        found = f"{len(value)} entries" if isinstance(value, list) else repr(value)[:60]
        raise InputError(where, found=found, expected=f"a list of at most {most}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise InputError(where, found=repr(value)[:60], expected=f"printable text, at most {MAX_TEXT} characters")
    return value


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(where, found=repr(value)[:60], expected="true or false")
    return value


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_MS:
        raise InputError(where, found=repr(value)[:60], expected=f"a number, 0 to {MAX_MS:g}")
    return float(value)


def _count(value: object, where: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InputError(where, found=repr(value)[:60], expected=f"a whole number, {least} to {most}")
    return value


def _samples(value: object, where: str) -> list[float]:
    found = [_number(one, where) for one in _list(value, where, MAX_RUNS)]
    if not found:
        raise InputError(where, found="none", expected="one number a run")
    return found
