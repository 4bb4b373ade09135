"""Statistics in Prometheus's text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats)."""

from __future__ import annotations

import re

from edgekit.errors import InputError
from edgekit.runtimes.realtime.stats import TIMES, Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_QUANTILES = (("0.5", "p50"), ("0.9", "p90"), ("0.99", "p99"), ("1", "max"))


def text(stats: Stats, prefix: str) -> str:
    """One family a metric. Raises ``InputError`` for a prefix that is no metric name."""
    if _NAME.fullmatch(prefix) is None:
        raise InputError("prefix", found=repr(prefix), expected="letters, digits, _ and :, no digit first")
    lines: list[str] = []

    def family(name: str, kind: str, about: str, samples: list[tuple[str, dict[str, str], float]]) -> None:
        lines.append(f"# HELP {prefix}_{name} {about}")
        lines.append(f"# TYPE {prefix}_{name} {kind}")
        lines.extend(f"{prefix}_{name}{suffix}{_labels(labels)} {float(value)!r}" for suffix, labels, value in samples)

    def plain(name: str, kind: str, about: str, value: float) -> None:
        family(name, kind, about, [("", {}, value)])

    plain("requests_total", "counter", "Requests that came.", stats.requests)
    plain("late_total", "counter", "Requests answered, or failed, past their deadline.", stats.late)
    plain("errors_total", "counter", "Requests that the model failed on.", stats.errors)
    plain("unread_total", "counter", "Answers that a reader was too slow for.", stats.unread)
    dropped = [("", {"reason": reason}, float(count)) for reason, count in stats.dropped.items()]
    family("dropped_total", "counter", "Requests dropped before they ran.", dropped)
    answered = [("", {"rung": rung}, float(count)) for rung, count in stats.answers_by_rung.items()]
    family("answers_total", "counter", "Requests answered, by the rung of the ladder that did.", answered)
    plain("waiting", "gauge", "Requests that wait.", stats.waiting)
    plain("queue_age_seconds", "gauge", "Age of the oldest request that waits.", stats.queue_age_ms / 1e3)
    plain("miss_ratio", "gauge", "Share of recent requests with a deadline that missed it.", stats.miss_rate)
    plain("arrivals_per_second", "gauge", "Recent rate of requests.", stats.arrival_hz)
    plain("answers_per_second", "gauge", "Recent rate of answers.", stats.answer_hz)
    family("rung", "gauge", "Level of the ladder, 0 the best.", [("", {"rung": stats.rung}, float(stats.level))])
    plain("paused", "gauge", "1 while the governor pauses the stream.", float(stats.paused))
    if stats.rate_limit_hz is not None:
        plain("rate_limit_per_second", "gauge", "The governor's limit of the rate.", stats.rate_limit_hz)
    for name in TIMES:
        samples: list[tuple[str, dict[str, str], float]] = [
            ("_sum", {}, stats.total_s[name]),
            ("_count", {}, float(stats.answers)),
        ]
        if name in stats.times:
            recent = stats.times[name]
            samples = [("", {"quantile": q}, getattr(recent, field) / 1e3) for q, field in _QUANTILES] + samples
        family(f"{name}_seconds", "summary", f"Time of answers: {name}.", samples)
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
