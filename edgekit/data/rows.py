"""From columns to rows of a task: what is kept, what is dropped and counted, what is an error."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from edgekit.data import columns as find
from edgekit.data.tables import Table, count
from edgekit.errors import DataError
from edgekit.recipe import Source


@dataclass
class Rows:
    """Rows of one or several files. Lists run in parallel; those that the task does not use are None."""

    where: list[str]  # "file, line n" of each row, for messages
    texts: list[str]
    labels: list[str] | None = None  # classify
    tags: list[list[tuple[int, int, str]]] | None = None  # tag
    strata: list[str] | None = None
    scored: Rows | None = None  # embed: the rows that are scored pairs
    pairs: list[str] | None = None
    scores: list[float] | None = None
    rules: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, row: int) -> str:
        """Where ``row`` was read, for messages."""
        return self.where[row]


def to_rows(table: Table, task: str, source: Source) -> Rows:
    """The rows of ``table`` for ``task``. DataError where a column is missing or holds what it should not."""
    convert = {"classify": _classify, "embed": _embed, "tag": _tag}[task]
    rows = convert(table, source)
    rows.rules[:0] = table.rules
    if not len(rows):
        raise DataError(
            f"data file {table.where}",
            found=f"{len(table)} rows, none of them usable ({'; '.join(rows.rules)})",
            expected="at least one row with a text" + (" and a label" if task != "embed" else ""),
        )
    return rows


def join(parts: list[Rows]) -> Rows:
    """Rows of several files as one."""
    if len(parts) == 1:
        return parts[0]

    def all_of(name: str) -> list[Any] | None:
        values = [getattr(part, name) for part in parts]
        return None if any(value is None for value in values) else [one for value in values for one in value]

    scored = [part.scored for part in parts if part.scored is not None]
    return Rows(
        where=all_of("where") or [],
        texts=all_of("texts") or [],
        labels=all_of("labels"),
        tags=all_of("tags"),
        strata=all_of("strata"),
        scored=join(scored) if scored else None,
        pairs=all_of("pairs"),
        scores=all_of("scores"),
        rules=[rule for part in parts for rule in part.rules],
    )


def _missing(value: object, nan_is_text: bool = False) -> bool:
    """Nothing, NaN (also written out, as a csv has it), or blank."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and (not value.strip() or (value.strip().lower() == "nan" and not nan_is_text))


def _text(value: object, table: Table, column: str, row: int, nan_is_text: bool = False) -> str | None:
    """The text, or None where there is nothing in it, or half of a surrogate pair, which no tokenizer takes."""
    if _missing(value, nan_is_text):
        return None
    if not isinstance(value, str):
        raise DataError(
            f"data file {table.where}, line {table.lines[row]}",
            found=f"{type(value).__name__} in column `{column}`",
            expected="text",
            fix="Name the column that holds the text with `text:`.",
        )
    if value.isascii():
        return value
    return None if any("\ud800" <= char <= "\udfff" for char in value) else value


class _Drops:
    """Counts dropped rows by reason, and says so."""

    def __init__(self, table: Table) -> None:
        self.table, self.counts = table, dict[tuple[str, str], int]()

    def add(self, reason: str, what: str = "row") -> None:
        self.counts[what, reason] = self.counts.get((what, reason), 0) + 1

    def rules(self) -> list[str]:
        return [
            f"{self.table.name}: {count(number, what)} dropped: {reason}"
            for (what, reason), number in self.counts.items()
        ]


NO_TEXT = "no text (empty, NaN or broken Unicode)"
NO_LABEL = "no label (empty or NaN)"


def _classify(table: Table, source: Source) -> Rows:
    where = find.for_classify(table, source)
    column, label_column = where.texts[0], str(where.label)
    raw_labels = table.columns[label_column]
    names = table.label_names.get(label_column)
    _refuse_scores(table, label_column)
    rows, drops = Rows([], [], []), _Drops(table)
    labels: list[str] = []
    for index, (value, raw) in enumerate(zip(table.columns[column], raw_labels, strict=True)):
        text = _text(value, table, column, index)
        if text is None:
            drops.add(NO_TEXT)
        elif _missing(raw) or (names is not None and raw == -1):  # -1: no label, in `datasets`
            drops.add(NO_LABEL)
        else:
            rows.texts.append(text)
            rows.where.append(f"{table.where}, line {table.lines[index]}")
            labels.append(label_name(raw, names, f"{table.where}, line {table.lines[index]}", label_column))
    rows.labels = labels
    rows.rules = [f"{table.name}: text in column `{column}`, label in `{label_column}`", *drops.rules()]
    return rows


def _refuse_scores(table: Table, column: str) -> None:
    """A column of numbers with fractions is a score: classes made of it would each hold a row or two."""
    values = [value for value in table.columns[column] if not _missing(value)]
    if values and find.numeric(values):
        for row, value in enumerate(table.columns[column]):
            if not _missing(value) and not float(value).is_integer():
                raise DataError(
                    f"data file {table.where}, line {table.lines[row]}",
                    found=f"{value} in label column `{column}`",
                    expected="class names or whole numbers",
                    fix="Name the column that holds the class with `label:`, or turn scores into classes.",
                )


def label_name(raw: object, names: list[str] | None, where: str, column: str) -> str:
    """A label as text: 1, 1.0, "1" and "1.0" are all "1"."""
    if names is not None and isinstance(raw, int):
        if not 0 <= raw < len(names):
            raise DataError(f"data file {where}", found=f"class {raw} in `{column}`", expected=f"0 to {len(names) - 1}")
        return names[raw]
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, int):
        return str(raw)
    if isinstance(raw, float) and raw.is_integer():
        return str(int(raw))
    if isinstance(raw, str):
        text = raw.strip()
        return text[: text.index(".")] if re.fullmatch(r"[+-]?\d+\.0+", text) else text
    raise DataError(
        f"data file {where}",
        found=f"{type(raw).__name__} in label column `{column}`",
        expected="one label a text: a name or a whole number",
        fix="Name the column that holds it with `label:`.",
    )


def _embed(table: Table, source: Source) -> Rows:
    where = find.for_embed(table, source)
    rows, drops = Rows([], []), _Drops(table)
    every = [*where.texts, *([where.pair] if where.pair else [])]
    for column in every:
        for index, value in enumerate(table.columns[column]):
            text = _text(value, table, column, index)
            if text is None:
                drops.add(f"{NO_TEXT} in `{column}`")
            else:
                rows.texts.append(text)
                rows.where.append(f"{table.where}, line {table.lines[index]}")
    rows.rules = [f"{table.name}: texts in column {' and '.join(f'`{name}`' for name in every)}", *drops.rules()]
    if where.pair and where.label:
        rows.scored = _scored(table, where.texts[0], where.pair, where.label)
        rows.rules += rows.scored.rules
    return rows


def _scored(table: Table, first: str, second: str, score: str) -> Rows:
    rows, drops = Rows([], []), _Drops(table)
    pairs: list[str] = []
    scores: list[float] = []
    for index, raw in enumerate(table.columns[score]):
        a = _text(table.columns[first][index], table, first, index)
        b = _text(table.columns[second][index], table, second, index)
        if a is None or b is None or _missing(raw):
            drops.add("a scored pair without both texts or score")
            continue
        try:
            value = float(raw)
        except (TypeError, ValueError):
            value = math.inf
        if not math.isfinite(value):
            raise DataError(
                f"data file {table.where}, line {table.lines[index]}",
                found=f"`{raw}` in score column `{score}`",
                expected="a number",
                fix="Name the column that holds the score with `label:`.",
            )
        rows.texts.append(a)
        pairs.append(b)
        scores.append(value)
        rows.where.append(f"{table.where}, line {table.lines[index]}")
    rows.pairs, rows.scores = pairs, scores
    rows.rules = [f"{table.name}: scored pairs in `{first}`, `{second}`, `{score}`", *drops.rules()]
    return rows


def _tag(table: Table, source: Source) -> Rows:
    where = find.for_tag(table, source)
    words_column, tags_column = where.texts[0], str(where.label)
    names = table.label_names.get(tags_column)
    rows, drops = Rows([], []), _Drops(table)
    spans: list[list[tuple[int, int, str]]] = []
    for index, (words, tags) in enumerate(zip(table.columns[words_column], table.columns[tags_column], strict=True)):
        place = f"{table.where}, line {table.lines[index]}"
        if not isinstance(words, list) or not isinstance(tags, list) or len(words) != len(tags):
            found = (
                f"{len(words)} words and {len(tags)} tags"
                if isinstance(words, list) and isinstance(tags, list)
                else f"{type(words).__name__} and {type(tags).__name__}"
            )
            raise DataError(f"data file {place}", found=found, expected="a list of words and a list of as many tags")
        text, row = "", list[tuple[int, int, str]]()
        for word, tag in zip(words, tags, strict=True):
            clean = _text(word, table, words_column, index, nan_is_text=True)
            if clean is None or _missing(tag):
                drops.add("no text or no tag", "word")
                continue
            text += " " if text else ""
            row.append((len(text), len(text) + len(clean), label_name(tag, names, place, tags_column)))
            text += clean
        if row:
            rows.texts.append(text)
            rows.where.append(place)
            spans.append(row)
        else:
            drops.add("no words")
    rows.tags = spans
    rows.rules = [
        f"{table.name}: words in `{words_column}`, tags in `{tags_column}`; a text is its words joined by one blank",
        *drops.rules(),
    ]
    return rows
