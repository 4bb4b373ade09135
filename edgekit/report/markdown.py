"""The report as Markdown: the tables, without the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgekit.report import figures as f
from edgekit.report.candidates import candidate_rows
from edgekit.report.dual import asked, retrieval_rows, tower_rows
from edgekit.report.engines import engine_rows, parity_rows
from edgekit.report.ladder import ladder_rows


def markdown(bundles: Sequence[dict[str, Any]]) -> str:
    """One bundle: its report. Several: a comparison, then each. ``bundles``: of :func:`edgekit.report.read`."""
    parts = [_comparison(bundles)] if len(bundles) > 1 else []
    return "\n\n".join([*parts, *(_one(bundle) for bundle in bundles)])


def _one(data: dict[str, Any]) -> str:
    sections = [f"# {_text(data['name'])}", _budget(data["budget"]), "## What each stage did", stage_table(data)]
    if data["ladder"]:
        sections += ["## Ladder", _dicts(ladder_rows(data["ladder"]))]
    retrieval, towers = retrieval_rows(data["stages"]), tower_rows(data)
    if retrieval:
        sections += ["## Retrieval", _dicts(retrieval)]
    if data["candidates"]:
        sections += ["## Candidates for INT8", _dicts(candidate_rows(data["candidates"]))]
    sections += ["## Engines", f"One inference: {asked(data)['one']}.", _dicts(engine_rows(data))]
    if towers:
        sections += ["## Towers", _dicts(towers)]
    if data["prompts"]:
        sections += ["## Prompt bank", _text(f.prompts(data["prompts"]))]
    if data["parity"]:
        sections += ["## Parity", _dicts(parity_rows(data["parity"]))]
    sections += ["## Made from", _provenance(data), "## Measured on", _machine(data["environment"])]
    return "\n\n".join(section for section in sections if section)


def stage_table(data: dict[str, Any]) -> str:
    """The table of stages, as the README shows it."""
    name = next((row["metric"] for row in data["stages"] if row["value"] is not None), "metric")
    head = ["stage", f"{name} [95 %]", "change, points [95 %]", "agreement", "size", "p50", "faster", "", "why"]
    return table(head, (_stage(row) for row in data["stages"]), right=range(1, 7))


def _stage(row: dict[str, Any]) -> list[str]:
    name = row["metric"]
    return [
        row["stage"],
        f"{f.metric(name, row['value'])} {f.interval(name, row['low'], row['high'])}".strip(),
        f"{f.change(row['gate_drop'])} {f.change_interval(row['gate_drop_low'], row['gate_drop_high'])}".strip(),
        f.metric("accuracy", row["agreement"]) if row["metric"] in f.SHARES else f.cosine(row["agreement"]),
        f.size(row["size_bytes"] or None),
        f.milliseconds(row["p50_ms"]),
        f.times(row["times_faster_than_teacher"]),
        "kept" if row["kept"] else "rolled back",
        row["reason"],
    ]


def _budget(budget: dict[str, Any]) -> str:
    bounds = budget.get("bounds") or []
    if not bounds:
        return "No budget was asked for."
    verdict = "Budget met." if budget.get("met") else "**Budget missed.**"
    rows = (
        [
            f"`{row.get('bound')}`",
            f.bound_value(row, "found"),
            "met" if row.get("met") else "**missed**",
            str(row.get("basis", "")),
        ]
        for row in bounds
    )
    return f"{verdict}\n\n{table(['bound', 'found', '', 'basis'], rows)}"


def _comparison(bundles: Sequence[dict[str, Any]]) -> str:
    rows = []
    for data in bundles:
        last = data["result"]
        rows.append(
            [
                data["name"],
                f.metric(last.get("metric", ""), last.get("value")),
                f.size(data["size_bytes"]),
                f.milliseconds(last.get("p50_ms")),
                f.times(last.get("times_faster")),
                str(data["environment"].get("cpu", f.DASH)),
            ]
        )
    return "# Side by side\n\n" + table(["bundle", "metric", "size", "p50", "faster than its teacher", "on"], rows)


def _provenance(data: dict[str, Any]) -> str:
    lines = [f"- made {data['created']} by edgekit {data['edgekit_version']}"]
    teacher, source = data["teacher"], data["data"]
    if teacher.get("model"):
        lines.append(
            f"- teacher: `{teacher['model']}`" + (f", sha256 `{teacher['sha256']}`" if teacher.get("sha256") else "")
        )
    if source.get("name"):
        sizes = ", ".join(f"{value} {key}" for key, value in (source.get("sizes") or {}).items())
        lines.append(f"- data: {source['name']} ({sizes}), fingerprint `{source.get('fingerprint', '')}`")
    lines += [f"  - {rule}" for rule in source.get("rules") or []]
    lines += [f"- licence of {one.get('what')}: {one.get('name')}, {one.get('licence')}" for one in data["licences"]]
    return "\n".join(_text(line) for line in lines)


def _machine(environment: dict[str, Any]) -> str:
    if not environment:
        return "The bundle does not say."
    keys = ("cpu", "isa", "usable_cpus", "memory_mb", "governor", "os", "kernel", "python")
    facts = [f"- {key.replace('_', ' ')}: {environment[key]}" for key in keys if environment.get(key) is not None]
    versions = environment.get("versions") or {}
    if versions:
        facts.append("- " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    basis = "Every figure above was measured there, unless it says that it is estimated."
    return "\n".join([*map(_text, facts), "", basis])


def _dicts(rows: Sequence[dict[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, dict | list)))
    return table([key.replace("_", " ") for key in keys], ([plain(row.get(key)) for key in keys] for row in rows))


def plain(value: Any) -> str:
    """Any value in a cell."""
    if value is None or f.missing(value):
        return f.DASH
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items()) or f.DASH
    if isinstance(value, list | tuple):
        return " ".join(plain(item) for item in value) or f.DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A Markdown table; columns ``right`` are flush right."""
    flush = set(right)
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "|".join("---:" if i in flush else "---" for i in range(len(head))) + "|")
    lines += ["| " + " | ".join(_text(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _text(value: str) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
