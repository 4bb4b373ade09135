"""F1 over whole spans in the BIO scheme, as in the CoNLL-2003 shared task (Tjong Kim Sang and De Meulder 2003)."""

from __future__ import annotations

from collections.abc import Iterable


def spans(tags: Iterable[str]) -> set[tuple[int, int, str]]:
    """(first word, word after the last, type) of each span; an I- that continues nothing opens a span of its own."""
    found, start, kind = set(), 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and not (prefix == "I" and name == kind):
            found.add((start, place, kind))
            kind = ""
        if prefix in ("B", "I") and not kind:
            start, kind = place, name
    return found


def span_f1(truth: list[list[int]], answers: list[list[int]], names: list[str]) -> dict[str, float]:
    """Micro-averaged precision, recall and F1 over spans; {} when ``names`` are not in the BIO scheme."""
    if "O" not in names or not any(name.startswith("B-") for name in names):
        return {}
    right = predicted = actual = 0
    for gold, answer in zip(truth, answers, strict=True):
        a, b = spans(names[i] for i in gold), spans(names[i] for i in answer)
        right, actual, predicted = right + len(a & b), actual + len(a), predicted + len(b)
    precision = right / predicted if predicted else 0.0
    recall = right / actual if actual else 0.0
    both = precision + recall
    return {"span_f1": 2 * precision * recall / both if both else 0.0, "precision": precision, "recall": recall}
