"""The report as Markdown: the tables, without the pictures, each narrow enough for a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.report import figures as f
from edgekit.report import sizes, words
from edgekit.report.basis import basis_rows, budget_basis, machine, stage_basis
from edgekit.report.board_rows import bound_rows
from edgekit.report.candidates import candidate_rows
from edgekit.report.charts import worst_matrices
from edgekit.report.compare import comparison_rows
from edgekit.report.dual import asked, retrieval_rows, tower_rows
from edgekit.report.engines import engine_rows
from edgekit.report.ladder import ladder_rows
from edgekit.report.markdown_boards import board_sections
from edgekit.report.pareto import frontier, versions
from edgekit.report.parity import matrix, measured_on, parity_rows
from edgekit.report.tables import dicts, plain, table, text

WORST = 8  # matrices of a stage


def markdown(bundles: Sequence[dict[str, Any]]) -> str:
    """One bundle: its report. Several: a comparison, then each. ``bundles``: of :func:`edgekit.report.read`."""
    parts = [_comparison(bundles)] if len(bundles) > 1 else []
    terms = [f"- {term}: {meaning}" for term, meaning in words.terms(list(bundles)).items()]
    end = "\n\n".join(["# Words", words.LEADS["words"], "\n".join(terms)])
    return "\n\n".join([*parts, *(_one(bundle) for bundle in bundles), end])


def _one(data: dict[str, Any]) -> str:
    budget = data["budget"]
    verdict = "No budget was asked for."
    if budget.get("bounds"):
        verdict = "Budget met." if budget.get("met") else "**Budget missed.**"
    found = [f"# {text(data['name'])}", verdict, words.INTRO]
    for key, heading in words.sections(data):
        found += [f"## {heading}", words.LEADS[key], *_BODIES[key](data)]
    return "\n\n".join(part for part in found if part)


def stage_table(data: dict[str, Any]) -> str:
    """The table of stages, as the README shows it."""
    name = next((row["metric"] for row in data["stages"] if row["value"] is not None), "metric")
    head = ["stage", f"{name} [95 %]", "change, points [95 %]", "agreement", "size", "p50", "faster", ""]
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
    ]


def _reasons(stages: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"- {row['stage']} {'kept' if row['kept'] else 'rolled back'}: {row['reason']}"
        for row in stages
        if row["reason"]
    ]
    return "\n".join(map(text, lines))


def _budget(data: dict[str, Any]) -> list[str]:
    rows = (
        [
            str(row.get("bound")),
            f.bound_value(row, "found"),
            f.bound_value(row, "limit"),
            "met" if row.get("met") else "**missed**",
            budget_basis(row, data),
        ]
        for row in data["budget"]["bounds"]
    )
    there = bound_rows(data["budget"], data["boards"])
    return [table(["bound", "found", "limit", "", "basis"], rows), *([dicts(there)] if there else [])]


def _pareto(data: dict[str, Any]) -> list[str]:
    found, metric = versions(data), str(data["result"].get("metric", ""))
    best = frontier(found)
    rows = (
        [one.name, f.metric(metric, one.value), f.milliseconds(one.ms), one.where, "yes" if one in best else ""]
        for one in sorted(found, key=lambda one: one.ms)
    )
    return [table(["version", metric, "p50", "measured on", "none beats it in both"], rows, right=(1, 2))]


def _engines(data: dict[str, Any]) -> list[str]:
    found = [f"One inference: {asked(data)['one']}. Measured on {machine(data)}.", dicts(engine_rows(data))]
    towers = tower_rows(data)
    if towers:
        found += ["### Towers", words.LEADS["towers"], dicts(towers)]
    if data["prompts"]:
        found += ["### Prompt bank", text(f.prompts(data["prompts"]))]
    return found


def _sizes(data: dict[str, Any]) -> list[str]:
    found = [table(["part", "size"], [[name, f.size(size)] for name, size in sizes.parts(data)], right=(1,))]
    engines = sizes.by_engine(data)
    if engines:
        found.append(table(["engine", "copied to a device"], [[k, f.size(v)] for k, v in engines.items()], right=(1,)))
    return [*found, f"Measured: bytes of the files; 1 MB is 1,000,000 bytes. {f.size(data['size_bytes'])} in all."]


def _parity(parity: Sequence[dict[str, Any]]) -> list[str]:
    found = [dicts(parity_rows(parity))]
    names, cells = matrix(parity)
    if names:
        head = ["mean cosine", *(str(i) for i in range(1, len(names) + 1))]
        rows = [
            [f"{i}: {name}", *(cell.text for cell in row)]
            for i, (name, row) in enumerate(zip(names, cells, strict=True), 1)
        ]
        found.append(table(head, rows, right=range(1, len(head))))
    return [*found, f"Measured {measured_on(parity)} of the test part."]


def _sensitivity(data: dict[str, Any]) -> list[str]:
    found = []
    for stage, rows in data["sensitivity"].items():
        worst, cost = worst_matrices(rows, WORST)
        if worst:
            found.append(f"### {text(stage)}: the {len(worst)} worst of {len(rows)}")
            found.append(table(["matrix", cost], [[name, f.small(value)] for name, value in worst], right=(1,)))
    return [*found, f"Measured on {machine(data)}, on calibration samples."]


def _candidates(data: dict[str, Any]) -> list[str]:
    found = []
    rows = candidate_rows(data["candidates"])
    for stage in dict.fromkeys(row["stage"] for row in rows):
        own = [{k: v for k, v in row.items() if k not in _WIDE} for row in rows if row["stage"] == stage]
        found += [f"### {text(stage)}", dicts(own)]
    return [*found, f"Measured on {machine(data)}; the change is on the validation part."]


_WIDE = ("stage", "least cosine", "matrices in float")  # the HTML has them


def _comparison(bundles: Sequence[dict[str, Any]]) -> str:
    return "\n\n".join(["# Side by side", words.LEADS["side"], dicts(comparison_rows(bundles))])


def _provenance(data: dict[str, Any]) -> str:
    lines = [f"- made {f.when(data['created'])} by edgekit {data['edgekit_version']}"]
    teacher, source = data["teacher"], data["data"]
    if teacher.get("model"):
        lines.append(
            f"- teacher: `{teacher['model']}`" + (f", sha256 `{teacher['sha256']}`" if teacher.get("sha256") else "")
        )
    if source.get("name"):
        counts = ", ".join(f"{value} {key}" for key, value in (source.get("sizes") or {}).items())
        lines.append(f"- data: {source['name']} ({counts}), fingerprint `{source.get('fingerprint', '')}`")
    lines += [f"  - {rule}" for rule in source.get("rules") or []]
    lines += [f"- licence of {one.get('what')}: {one.get('name')}, {one.get('licence')}" for one in data["licences"]]
    return "\n".join(text(line) for line in lines)


def _machine(environment: dict[str, Any]) -> str:
    if not environment:
        return "The bundle does not say which machine made it."
    known = ("cpu", "isa", "usable_cpus", "memory_mb", "governor", "os", "kernel", "python", "versions")
    facts = [f"- {key.replace('_', ' ')}: {plain(environment[key])}" for key in known if environment.get(key)]
    return "\n".join(["The machine that made the bundle:", "", *map(text, facts)])


_BODIES = {
    "budget": _budget,
    "stages": lambda data: [stage_table(data), _reasons(data["stages"]), stage_basis(data)],
    "ladder": lambda data: [dicts(ladder_rows(data["ladder"])), f"Measured on {machine(data)}."],
    "retrieval": lambda data: [dicts(retrieval_rows(data["stages"])), f"Measured on {machine(data)}."],
    "pareto": _pareto,
    "boards": lambda data: board_sections(data["boards"]),
    "engines": _engines,
    "size": _sizes,
    "parity": lambda data: _parity(data["parity"]),
    "sensitivity": _sensitivity,
    "candidates": _candidates,
    "basis": lambda data: [dicts(basis_rows(data)), _machine(data["environment"])],
    "made": lambda data: [_provenance(data)],
}
