"""The rungs of a ladder: a table, and a picture of accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.report import figures as f
from edgekit.report import pareto


def ladder_rows(ladder: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading -> cell for each rung, the most accurate first; figures of its fastest file."""
    return [
        {
            "rung": rung["name"],
            **_size(rung),
            rung["metric"].replace("_", " "): f.metric(rung["metric"], rung["value"]),
            "95 %": f.interval(rung["metric"], rung["low"], rung["high"]),
            "agreement with teacher": f.metric("accuracy", rung["agreement"])
            if rung["metric"] in f.SHARES
            else f.cosine(rung["agreement"]),
            "p50": f.milliseconds(rung["p50_ms"]),
            "faster than the first": f.times(f.ratio(ladder[0]["p50_ms"], rung["p50_ms"])),
            "size": f.size(rung["size_bytes"]),
        }
        for rung in ladder
    ]


def _size(rung: dict[str, Any]) -> dict[str, str]:
    """What the rung has of the first one."""
    if rung.get("channels") is not None:
        return {"hidden channels, picture": f"{rung['channels']} %"}
    return {"layers": f.DASH if rung.get("layers") is None else str(rung["layers"])}


def rungs_plot(data: dict[str, Any]) -> pareto.Plot | None:
    """Accuracy against p50 of each rung, where there is more than one."""
    where = f.plain_name(str(data["environment"].get("cpu") or "the machine that made it"))
    rungs = [
        pareto.Version(rung["name"], "rungs", where, rung["value"], rung["low"], rung["high"], rung["p50_ms"])
        for rung in data["ladder"]
    ]
    return pareto.plot(rungs, data["ladder"][0]["metric"]) if rungs else None
