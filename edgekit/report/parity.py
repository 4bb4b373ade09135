"""How alike the packed files answer: each against the teacher and its own fp32, and all against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.report import figures as f

NEAR, FAR = 0.999, 0.99  # cosines from which, and below which, a cell of the matrix is tinted
_REFERENCES = {"teacher": "the teacher, torch fp32", "fp32": "its engine's own fp32"}


@dataclass(frozen=True)
class Cell:
    """One pair: ``text`` the mean cosine, ``below`` the share of equal first answers, ``kind`` near, far or ''."""

    text: str
    below: str
    kind: str


def parity_rows(parity: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Heading -> cell for each file against the teacher and against its engine's own fp32."""
    return [
        {
            "file": f"{row.get('engine')} {row.get('precision') or row.get('file')}",
            "against": _REFERENCES[row["against"]],
            "mean cosine": f.cosine(row.get("cosine_mean")),
            "least cosine": f.cosine(row.get("cosine_min")),
            "same first answer": f.metric("accuracy", row.get("top1")),
            f"{row.get('metric') or 'metric'} [95 %]": _score(row),
        }
        for row in parity
        if row.get("against") in _REFERENCES
    ]


def _score(row: dict[str, Any]) -> str:
    name = str(row.get("metric"))
    return f"{f.metric(name, row.get('value'))} {f.interval(name, row.get('low'), row.get('high'))}".strip()


def measured_on(parity: Sequence[dict[str, Any]]) -> str:
    """The instruction sets and numbers of examples of the rows, in words."""
    sets = list(dict.fromkeys(str(row["isa"]) for row in parity if row.get("isa")))
    counts = list(dict.fromkeys(str(row["n"]) for row in parity if row.get("n")))
    return " ".join([*([f"on {' and '.join(sets)},"] if sets else []), f"over {' or '.join(counts) or '?'} examples"])


def matrix(parity: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[Cell]]]:
    """Names of the files and a square of cells, a row a file; empty where no two files were compared."""
    pairs = {(row.get("file"), row.get("against")): row for row in parity}
    files = list(dict.fromkeys(str(row.get("file")) for row in parity))
    if not any((a, b) in pairs for a in files for b in files):
        return [], []
    engines = {str(row.get("file")): f"{row.get('engine')} {row.get('precision')}" for row in parity}
    return [engines[name] for name in files], [[_cell(pairs.get((a, b)), a == b) for b in files] for a in files]


def _cell(row: dict[str, Any] | None, same: bool) -> Cell:
    if row is None:
        return Cell("itself" if same else f.DASH, "", "")
    cosine = row.get("cosine_mean")
    kind = "" if f.missing(cosine) or cosine is None else "near" if cosine >= NEAR else "far" if cosine < FAR else ""
    return Cell(f.cosine(cosine), f"{f.metric('accuracy', row.get('top1'))} same", kind)
