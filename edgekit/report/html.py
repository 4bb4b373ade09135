"""The report as one HTML file: no script, no network, light and dark, fit to print."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from edgekit.report import (
    basis,
    board_rows,
    boards,
    charts,
    compare,
    figures,
    histogram,
    ladder,
    pareto,
    sizes,
    sustain,
    words,
)
from edgekit.report.candidates import candidate_rows
from edgekit.report.dual import asked, retrieval_rows, tower_rows
from edgekit.report.engines import engine_rows
from edgekit.report.parity import matrix, measured_on, parity_rows
from edgekit.report.tables import keys, plain

_NUMBER = re.compile(r"[-+–]?\d[\d.,e-]*( ?(%|×|s|ms|MB|KB|M|mJ|MHz))?( \[.*\])?|–|not measured")


def html(bundles: Sequence[dict[str, Any]]) -> str:
    """One page for one bundle or several, as :func:`edgekit.report.read` gives them."""
    title = ", ".join(str(bundle["name"]) for bundle in bundles)
    return _environment().get_template("report.html").render(bundles=list(bundles), title=title)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("edgekit.report", "templates"),
        autoescape=True,  # names, reasons and rules are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update(f=figures, charts=charts, pareto=pareto, hills=histogram, sustain=sustain, words=words)
    for function in (
        *(
            plain,
            keys,
            asked,
            candidate_rows,
            engine_rows,
            retrieval_rows,
            tower_rows,
            matrix,
            measured_on,
            parity_rows,
        ),
        *(
            compare.comparison_rows,
            compare.compared,
            ladder.ladder_rows,
            ladder.rungs_plot,
            numeric,
            picture,
            size_charts,
            board_chart,
            hills_of,
        ),
        *(basis.machine, basis.basis_rows, basis.stage_basis, basis.budget_basis, words.sections),
        *(board_rows.summary_rows, board_rows.latency_rows, board_rows.cost_rows, board_rows.operator_rows),
        *(board_rows.bound_rows, board_rows.memory_bars, board_rows.told_basis, board_rows.warning, board_rows.chosen),
        *(board_rows.providers, board_rows.unmeasured, board_rows.part_rows, board_rows.answers, board_rows.busy),
    ):
        found.globals[function.__name__] = function
    return found


def picture(data: dict[str, Any]) -> pareto.Plot | None:
    """Accuracy against latency of one bundle, where at least two versions have both."""
    return pareto.plot(pareto.versions(data), str(data["result"].get("metric", "")))


def size_charts(data: dict[str, Any]) -> list[charts.Chart]:
    """The parts of the bundle, and what each engine alone needs."""
    wanted = [
        ("Parts of the bundle", sizes.parts(data)),
        ("Copied to a device, by engine", sizes.by_engine(data).items()),
    ]
    rows = [
        (title, [(name, float(size), figures.size(size), "kept") for name, size in parts]) for title, parts in wanted
    ]
    return [charts.chart(title, bars) for title, bars in rows if bars]


def board_chart(found: Sequence[dict[str, Any]]) -> charts.Chart:
    """p50 of each board's best row, without those of another bundle; an emulated one has words for a bar."""
    rows = [
        (one["title"], one["best"].get("p50_ms"), board_rows.time(one, one["best"], "p50_ms"), "kept")
        for one in found
        if one["of"] != "other"
    ]
    return charts.chart("Latency p50, file and input of each board as in the table", rows)


def hills_of(board: dict[str, Any]) -> list[histogram.Histogram]:
    """The histograms of a board's shown rows."""
    drawn = (
        histogram.drawing(", ".join(filter(None, (board_rows.ran(row), board_rows.given(row)))), row)
        for row in boards.shown(board)
    )
    return [one for one in drawn if one is not None]


def numeric(rows: Sequence[dict[str, Any]]) -> set[str]:
    """Columns of numbers, which stand flush right and do not wrap; never the first one, which names the row."""
    names = keys(rows)
    return {name for name in names[1:] if all(_NUMBER.fullmatch(plain(row.get(name))) for row in rows)}
