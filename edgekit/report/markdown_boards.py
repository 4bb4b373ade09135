"""The boards in Markdown: what each measured, in narrow tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.report import board_rows as rows
from edgekit.report import sustain, words
from edgekit.report.tables import dicts, text

# Columns that the HTML has and a page of text has no room for.
_SUMMARY = ("p95",)
_LATENCY = ("p90", "max", "jitter")
_COST = ("first", "CPU in use", "after runs", "PSS")


def board_sections(boards: Sequence[dict[str, Any]]) -> list[str]:
    """All boards in one table, then each."""
    found = [dicts(_narrow(rows.summary_rows(boards), _SUMMARY))]
    for board in boards:
        found += _board(board)
    return found


def _board(board: dict[str, Any]) -> list[str]:
    note = "" if board["timed"] else f" ({rows.UNTIMED})"
    found = [f"### {text(board['title'])}{note}", text(rows.told_basis(board))]
    found += [f"**{text(rows.warning(board))}**"] if rows.warning(board) else []
    found += [f"**{rows.busy(board)}**"] if rows.busy(board) else []
    found += [rows.answers(board)] if rows.answers(board) else []
    found += [text(rows.chosen(board))] if rows.chosen(board) else []
    found += [
        text(f"Check failed: {check.get('name')}. {check.get('detail') or ''}".strip())
        for check in board["verified"].get("checks") or []
        if not check.get("ok")
    ]
    found += [
        text(f"{one.get('engine')} could not run {one.get('file')}: {one.get('cause')}") for one in board["failed"]
    ]
    timed, costs = _narrow(rows.latency_rows(board), _LATENCY), _narrow(rows.cost_rows(board), _COST)
    found += [dicts(part) for part in (timed, rows.part_rows(board), costs) if part]
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


def _narrow(table: list[dict[str, str]], without: Sequence[str]) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name not in without} for row in table]
