"""The boards in Markdown: what each measured, in narrow tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.report import board_rows as rows
from edgekit.report import sustain, words
from edgekit.report.tables import dicts, text

_NARROW = ("p95", "max", "jitter")  # the HTML has them


def board_sections(boards: Sequence[dict[str, Any]]) -> list[str]:
    """All boards in one table, then each."""
    found = [dicts([{k: v for k, v in row.items() if k not in _NARROW} for row in rows.summary_rows(boards)])]
    for board in boards:
        found += _board(board)
    return found


def _board(board: dict[str, Any]) -> list[str]:
    note = "" if board["timed"] else f" ({rows.UNTIMED})"
    found = [f"### {text(board['title'])}{note}", text(rows.told_basis(board))]
    found += [f"**{text(rows.warning(board))}**"] if rows.warning(board) else []
    found += [text(rows.chosen(board))] if rows.chosen(board) else []
    found += [
        text(f"Check failed: {check.get('name')}. {check.get('detail') or ''}".strip())
        for check in board["verified"].get("checks") or []
        if not check.get("ok")
    ]
    found += [
        text(f"{one.get('engine')} could not run {one.get('file')}: {one.get('cause')}") for one in board["failed"]
    ]
    timed = [{k: v for k, v in row.items() if k not in _NARROW} for row in rows.latency_rows(board)]
    found += [dicts(part) for part in (timed, rows.part_rows(board), rows.cost_rows(board)) if part]
    found += [rows.unmeasured(board)] if rows.unmeasured(board) else []
    if sustain.curves(board["sustain"]):
        told = [f"- {curve.title}: {curve.description}" for curve in sustain.curves(board["sustain"])]
        found += [words.LEADS["sustained"], sustain.summary(board["sustain"]), "\n".join(told)]
    for ops in board["ops"]:
        shares = rows.providers(ops)
        found.append(
            text(f"{ops.get('file')} in {ops.get('engine')}" + (f"; share of the time: {shares}" if shares else ""))
        )
        found.append(dicts(rows.operator_rows(ops)))
    return found
