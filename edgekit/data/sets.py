"""From rows to the sets that training and evaluation use: label numbers, leaks between parts, what was odd."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from edgekit.data.records import TextSet, fold
from edgekit.data.rows import Rows
from edgekit.data.tables import count
from edgekit.errors import DataError

LONG = 512  # characters; a longer text may not fit in one window


def pick(rows: Rows, index: Iterable[int]) -> Rows:
    """The rows at ``index``, without their rules."""
    chosen = list(index)

    def some(values: list[Any] | None) -> list[Any] | None:
        return None if values is None else [values[row] for row in chosen]

    return Rows(
        where=[rows.where[row] for row in chosen],
        texts=[rows.texts[row] for row in chosen],
        labels=some(rows.labels),
        tags=some(rows.tags),
        strata=some(rows.strata),
        pairs=some(rows.pairs),
        scores=some(rows.scores),
    )


def natural(names: Iterable[str]) -> list[str]:
    """Names in the order people expect: 2 before 10, item2 before item10."""
    unique = set(names)
    if all(re.fullmatch(r"[+-]?\d+", name) for name in unique):
        return sorted(unique, key=lambda name: (int(name), name))
    return sorted(
        unique,
        key=lambda name: [(0, int(bit), "") if bit.isdecimal() else (1, 0, bit) for bit in re.split(r"(\d+)", name)],
    )


def label_names(rows: Rows, task: str) -> list[str]:
    """All labels of the training rows; DataError where fewer than two classes are there."""
    if task == "embed":
        return []
    if task == "classify":
        names = natural(rows.labels or [])
    else:
        names = natural(name for row in rows.tags or [] for _, _, name in row)
    if len(names) < 2:
        raise DataError(
            "training data",
            found=f"one class only, `{names[0]}`" if names else "no labels",
            expected="at least two classes",
            fix="Check the label column, or add rows of other classes.",
        )
    return names


def to_set(rows: Rows, task: str, names: list[str], part: str) -> TextSet:
    """Rows as a TextSet; DataError where a label is not one of ``names``."""
    if task == "embed":
        if rows.pairs is not None and rows.scores is not None:
            return TextSet(rows.texts, pairs=rows.pairs, scores=np.asarray(rows.scores, dtype=np.float32))
        return TextSet(rows.texts, strata=rows.strata)
    index = {name: number for number, name in enumerate(names)}
    if task == "classify":
        labels = [_known(index, name, rows.where[row], part) for row, name in enumerate(rows.labels or [])]
        return TextSet(rows.texts, labels=np.asarray(labels, dtype=np.int64), strata=rows.strata)
    tags = [
        [(start, end, _known(index, name, rows.where[row], part)) for start, end, name in spans]
        for row, spans in enumerate(rows.tags or [])
    ]
    return TextSet(rows.texts, tags=tags)


def _known(index: dict[str, int], name: str, where: str, part: str) -> int:
    if name not in index:
        listed = ", ".join(list(index)[:10]) + (f" and {len(index) - 10} more" if len(index) > 10 else "")
        raise DataError(
            f"{part} data, {where}",
            found=f"label `{name}`, which was not seen in training",
            expected=f"one of {listed}",
            fix="Add it to the training data, drop the row, or name the right column with `label:`.",
        )
    return index[name]


def without(rows: Rows, others: list[TextSet], part: str, other: str) -> Rows:
    """``rows`` without the texts that ``others`` hold; the drop is stated in the result's rules."""
    seen = {fold(text) for one in others for texts in (one.texts, one.pairs) for text in texts or ()}
    keep = [row for row, text in enumerate(rows.texts) if fold(text) not in seen]
    dropped = len(rows) - len(keep)
    if not dropped:
        return rows
    if not keep:
        raise DataError(
            f"{part} data",
            found=f"every one of its {len(rows)} texts in {other} too",
            expected="texts of its own",
            fix="Give different files for the two.",
        )
    result = pick(rows, keep)
    result.rules = [f"{count(dropped, 'text')} dropped from {part}: in {other} too (case and blanks ignored)"]
    return result


def unique(rows: Rows) -> Rows:
    """Texts without labels, each once: the second copy would teach nothing new."""
    seen: dict[str, int] = {}
    for row, text in enumerate(rows.texts):
        seen.setdefault(text, row)
    result = pick(rows, seen.values())
    if len(result) < len(rows):
        result.rules = [f"{count(len(rows) - len(result), 'repeated text')} dropped from train"]
    return result


def oddities(train: TextSet, others: list[TextSet]) -> list[str]:
    """What a reader of the report should know of the texts."""
    rules: list[str] = []
    if train.labels is not None:
        labels: dict[str, set[int]] = defaultdict(set)
        for text, label in zip(train.texts, train.labels.tolist(), strict=True):
            labels[fold(text)].add(label)
        torn = sum(len(found) > 1 for found in labels.values())
        if torn:
            rules.append(f"{count(torn, 'text')} of train with more than one label; all rows were kept")
    longest = max(len(text) for part in (train, *others) for text in part.texts)
    if longest > LONG:
        rules.append(
            f"the longest text has {longest:,} characters: training uses the first max_length tokens of a text, "
            "evaluation and inference read all of it in windows"
        )
    return rules
