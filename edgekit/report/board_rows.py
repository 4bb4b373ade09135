"""Tables of the boards: all beside one another, then what each one measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edgekit.report import figures as f
from edgekit.report.boards import label, shown

UNTIMED = "emulated: no timing"
BUSY = 0.25  # load over processors, as in `edgekit profile --compare`
_VIA = {"local": "on the machine itself", "ssh": "over ssh", "browser": "in a browser"}


def summary_rows(boards: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading -> cell for each board: its best file at the length that boards are compared at."""
    rows = []
    counted = any(board["best"].get("instructions_m") is not None for board in boards)
    for board in boards:
        row = board["best"]
        rows.append(
            {
                "board": board["title"],
                "basis": board["basis"] + (", another bundle" if board["of"] == "other" else ""),
                "ran": ran(row),
                "input": given(row),
                "p50": time(board, row, "p50_ms"),
                "p95": time(board, row, "p95_ms"),
                "peak memory": f.told(f.megabytes(row.get("rss_mb"))),
                **({"instructions": f.millions(row.get("instructions_m"))} if counted else {}),
                "golden vectors": golden(board),
            }
        )
    return rows


def latency_rows(board: dict[str, Any]) -> list[dict[str, str]]:
    """Heading -> cell for each combination that was timed; [] for an emulated board."""
    rows = []
    for row in board["rows"] if board["timed"] else []:
        cells = {**_what(row), **{key: f.told(f.milliseconds(row.get(f"{key}_ms"))) for key in _PERCENTILES}}
        if any(other.get("mean_ms") is not None for other in board["rows"]):
            cells["mean [95 %]"] = f"{f.milliseconds(row.get('mean_ms'))} {_interval(row)}".strip()
            cells["jitter"] = f.milliseconds(row.get("jitter_ms"))
        if row.get("warmup_stable") is False:
            cells["warm-up"] = "did not settle"
        rows.append(cells)
    return rows


_PERCENTILES = ("p50", "p90", "p95", "p99", "max")


_COSTS = (
    ("load", "load_ms", f.milliseconds),
    ("first", "first_ms", f.milliseconds),
    ("CPU time", "cpu_ms", f.milliseconds),
    ("CPU in use", "utilisation", f.share),
    ("peak memory", "rss_mb", f.megabytes),
    ("after runs", "rss_steady_mb", f.megabytes),
    ("PSS", "pss_mb", f.megabytes),
    ("energy", "energy_mj", f.millijoules),
    ("instructions", "instructions_m", f.millions),
)
_PARTS = tuple((part, f"{part}_p50_ms", f.milliseconds) for part in
               ("decode", "preprocess", "model", "postprocess", "search"))  # fmt: skip
_ASKED = ("load_ms", "cpu_ms", "rss_mb", "energy_mj")  # a reader misses these where they are not


def cost_rows(board: dict[str, Any]) -> list[dict[str, str]]:
    """Heading -> cell for each combination: starting, processor, memory, energy, instructions.

    What no row has is no column; :func:`unmeasured` names it.
    """
    return _columns(board, _COSTS)


def part_rows(board: dict[str, Any]) -> list[dict[str, str]]:
    """Heading -> cell for each combination: the median time of each part of an inference."""
    return _columns(board, _PARTS, missing=f.DASH)  # a text is not decoded


def _columns(board: dict[str, Any], wanted: Sequence[Any], missing: str = "not measured") -> list[dict[str, str]]:
    asked = [one for one in wanted if any(row.get(one[1]) is not None for row in board["rows"])]
    if not asked:
        return []
    return [
        {**_what(row), **{name: show(row[key]) if row.get(key) is not None else missing for name, key, show in asked}}
        for row in board["rows"]
    ]


def unmeasured(board: dict[str, Any]) -> str:
    """What nothing on that board tells, in words; empty where all that a reader would ask for is there."""
    names = [
        name
        for name, key, _ in _COSTS
        if key in _ASKED
        and (board["timed"] or key == "rss_mb")
        and not any(row.get(key) is not None for row in board["rows"])
    ]
    return f"Not measured there: {', '.join(names)}." if names and board["rows"] else ""


def operator_rows(one: dict[str, Any], most: int = 15) -> list[dict[str, str]]:
    """Heading -> cell for the operators of one profiled file that take most time."""
    rows = [row for row in one.get("rows") or [] if isinstance(row, dict)]
    rows.sort(key=lambda row: -(row.get("ms") or 0))
    return [
        {
            "operator": str(row.get("op") or row.get("kind") or f.DASH),
            "kind": str(row.get("kind") or f.DASH),
            "runs on": str(row.get("provider") or f.DASH),
            "calls": str(row.get("calls", f.DASH)),
            "time": f.milliseconds(row.get("ms")),
            "share": f.share(row.get("share")),
        }
        for row in rows[:most]
    ]


def providers(one: dict[str, Any]) -> str:
    """Shares of the time on each execution provider or delegate, in words."""
    found = [row for row in one.get("providers") or [] if isinstance(row, dict)]
    return ", ".join(f"{row.get('provider')} {f.share(row.get('share'))}" for row in found)


def bound_rows(budget: dict[str, Any], boards: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading -> cell: bounds of time and memory on each board but the one that made the bundle.

    Boards that measured another bundle are left out.
    """
    rows = []
    for bound in budget.get("bounds") or []:
        found = re.match(r"p\d+|rss", str(bound.get("bound", "")))
        limit = bound.get("limit")
        if not found or not isinstance(limit, int | float):
            continue
        quantity = found[0]
        for board in boards:
            if board["made"] or board["of"] == "other" or not board["best"]:
                continue
            row = board["best"]
            value = row.get("rss_mb") if quantity == "rss" else row.get(f"{quantity}_ms")
            value = 1e6 * value if quantity == "rss" and value is not None else value
            told = f.size(value) if quantity == "rss" else time(board, row, f"{quantity}_ms")
            met = "not judged" if value is None else "met" if value <= limit else "missed"
            rows.append(
                {
                    "bound": str(bound["bound"]),
                    "board": board["title"],
                    "found": f"{f.told(told)}, {ran(row)}" + (f", {given(row)}" if given(row) else ""),
                    "limit": f.bound_value(bound, "limit"),
                    "verdict": met,
                }
            )
    return rows


def memory_bars(board: dict[str, Any]) -> list[tuple[str, float | None, str, str]]:
    """Label, peak bytes, text and kind of each shown row of a board that has a peak."""
    return [
        (label(row), 1e6 * row["rss_mb"], f.megabytes(row["rss_mb"]), "kept")
        for row in shown(board)
        if isinstance(row.get("rss_mb"), int | float)
    ]


def told_basis(board: dict[str, Any]) -> str:
    """Measured or emulated, on what, when, and how it was reached: the line under all that a board shows."""
    seen = board["environment"]
    machine = f.plain_name(str(seen.get("cpu") or seen.get("user_agent") or board["title"]))
    parts = [machine] if machine in board["title"] else [f"{board['title']} ({machine})"]
    parts += [str(seen[key]) for key in ("browser", "os") if seen.get(key)]
    parts += ["a virtual machine"] if seen.get("virtual") else []
    parts += [_VIA.get(board["via"], board["via"])] if not board["made"] else ["when the bundle was made"]
    parts += [f.when(board["created"])] if board["created"] else []
    words = "Measured on" if board["timed"] else "Emulated, not measured, as"
    more = "" if board["timed"] else " An emulator's time says nothing of the board, so none is shown."
    return f"{words} {', '.join(parts)}.{more}"


def warning(board: dict[str, Any]) -> str:
    """What a reader must know before comparing: a profile of another bundle, or one that does not say."""
    if board["of"] == "other":
        which = f" ({board['bundle']})" if board["bundle"] else ""
        return f"This profile is of another bundle{which}, or of another version of this one: its files are not these."
    if board["of"] == "unknown" and not board["made"]:
        return "This profile does not say which version of the bundle it measured."
    return ""


def busy(board: dict[str, Any]) -> str:
    """That others used the processors when the measurement began, in a sentence; empty where nothing says so."""
    load, cpus = board["environment"].get("load_average"), board["environment"].get("cpus")
    if not board["timed"] or not isinstance(load, list) or not load or not cpus or load[0] <= BUSY * cpus:
        return ""
    return f"The machine was busy (load {load[0]:.1f} on {cpus} processors): at rest it may be faster."


def golden(board: dict[str, Any]) -> str:
    """Whether the bundle answered as recorded on that board."""
    found = board["verified"]
    if not found:
        return "made there" if board["made"] else "not checked"
    if found.get("ok"):
        return "matched"
    failed = [str(check.get("name")) for check in found.get("checks") or [] if not check.get("ok")]
    return "FAILED: " + ", ".join(failed) if failed else "FAILED"


def answers(board: dict[str, Any]) -> str:
    """What the bundle's own checks said there, in a sentence; empty for the machine that made it."""
    words = {
        "made there": "",
        "not checked": "Whether it answers rightly there was not checked.",
        "matched": "It answered there as recorded: every check of the bundle held.",
    }
    return words.get(golden(board), "It did NOT answer there as recorded.")


def ran(row: dict[str, Any]) -> str:
    """What a row ran: engine, precision, tower, threads where there are several."""
    threads = row.get("threads")
    return (label(row) + (f", {threads} threads" if isinstance(threads, int) and threads > 1 else "")) or f.DASH


def chosen(board: dict[str, Any]) -> str:
    """What did best there and why, in a sentence; empty where the profile says no reason."""
    why = str(board["choice"].get("why") or "")
    return f"Did best there: {ran({**board['best'], **board['choice'], 'tower': None})}, {why}." if why else ""


def given(row: dict[str, Any]) -> str:
    """What a row was given: ``32 tokens``, ``a picture``, with the batch where it is not one."""
    length, batch = row.get("length"), row.get("batch") or 1
    words = f"{length} tokens" if length is not None else "a picture" if row.get("tower") == "image" else ""
    words = words or ("real inputs" if row else "")
    return f"{words}, batch {batch}" if batch != 1 and words else words


def time(board: dict[str, Any], row: dict[str, Any], key: str) -> str:
    """A time of a board; of an emulated one the words instead."""
    return f.told(f.milliseconds(row.get(key))) if board["timed"] else UNTIMED


def _what(row: dict[str, Any]) -> dict[str, str]:
    return {"ran": label(row), "threads": str(row.get("threads") or f.DASH), "input": given(row)}


def _interval(row: dict[str, Any]) -> str:
    ends = [end for end in (row.get("mean_low_ms"), row.get("mean_high_ms")) if end is not None and not f.missing(end)]
    return f"[{f.short(ends[0])}, {f.short(ends[1])}]" if len(ends) == 2 else ""
