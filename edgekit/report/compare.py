"""Several bundles beside one another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from edgekit.report import figures as f
from edgekit.report import pareto


def comparison_rows(bundles: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading -> cell for the last model that stayed in each bundle."""
    rows = []
    for data in bundles:
        last, name = data["result"], data["result"].get("metric", "")
        rows.append(
            {
                "bundle": str(data["name"]),
                "metric": f"{name.replace('_', ' ')} {f.metric(name, last.get('value'))}".strip(),
                "budget": _verdict(data["budget"]),
                "bundle size": f.size(data["size_bytes"]),
                "p50": f.milliseconds(last.get("p50_ms")),
                "faster than its teacher": f.times(last.get("times_faster")),
                "measured on": f.plain_name(str(data["environment"].get("cpu") or "not stated")),
            }
        )
    return rows


def compared(bundles: Sequence[dict[str, Any]]) -> pareto.Plot | None:
    """One picture of the packed files of all bundles; None where their metrics or data differ."""
    metrics = {data["result"].get("metric") for data in bundles}
    tested = {data["data"].get("fingerprint") for data in bundles}
    if len(metrics) != 1 or None in metrics or len(tested) != 1:
        return None
    found = [
        dataclasses.replace(one, series=str(data["name"]), name=f"{data['name']}: {one.name}")
        for data in bundles
        for one in pareto.versions(data)
        if one.series != pareto.STAGES
    ]
    return pareto.plot(found, str(metrics.pop()))


def _verdict(budget: dict[str, Any]) -> str:
    if not budget.get("bounds"):
        return "none asked"
    return "met" if budget.get("met") else "missed"
