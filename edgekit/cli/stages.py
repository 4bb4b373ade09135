"""The table of stages on the terminal."""

from __future__ import annotations

from edgekit.cli.output import Column
from edgekit.report import figures as f
from edgekit.report.data import stage_rows

__all__ = ["STAGE_COLUMNS", "stage_rows"]

STAGE_COLUMNS = [
    Column("stage", "stage", right=False),
    Column("kept", "", lambda kept: "kept" if kept else "ROLLED BACK", right=False),
    Column("metric", "metric", right=False),
    Column("value", "test", "{:.4f}".format),
    Column("low", "low", "{:.4f}".format),
    Column("high", "high", "{:.4f}".format),
    Column("gate_drop", "change, points", f.change),
    Column("agreement", "agreement", "{:.4f}".format),
    Column("size_bytes", "size", f.size),
    Column("p50_ms", "p50", f.milliseconds),
    Column("times_faster", "vs before", f.times),
    Column("times_faster_than_teacher", "vs teacher", f.times),
    Column("seconds", "took", f.seconds),
    Column("reason", "why", right=False),
]
