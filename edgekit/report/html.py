"""The report as one HTML file: no script, no network, light and dark, fit to print."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from edgekit.report import charts, figures, ladder
from edgekit.report.candidates import candidate_rows
from edgekit.report.dual import asked, retrieval_rows, tower_rows
from edgekit.report.engines import engine_rows, parity_rows
from edgekit.report.markdown import plain


@lru_cache(maxsize=1)
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("edgekit.report", "templates"),
        autoescape=True,  # names, reasons and rules are other people's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update(f=figures, plain=plain, charts=charts, ladders=ladder, keys=_keys)
    found.globals.update(candidate_rows=candidate_rows, engine_rows=engine_rows, parity_rows=parity_rows)
    found.globals.update(asked=asked, retrieval_rows=retrieval_rows, tower_rows=tower_rows)
    return found


def html(bundles: Sequence[dict[str, Any]]) -> str:
    """One page for one bundle or several, as :func:`edgekit.report.read` gives them."""
    title = ", ".join(str(bundle["name"]) for bundle in bundles)
    return _environment().get_template("report.html").render(bundles=bundles, title=title)


def _keys(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Columns of a table of dicts: every key whose values fit in a cell, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, dict | list)))
