"""Which column holds what: as the recipe says, else by the usual names, else by what stands in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from edgekit.errors import DataError
from edgekit.recipe import Source

if TYPE_CHECKING:
    from edgekit.data.tables import Table

TEXT = (
    "sentence", "text", "content", "review", "utterance", "query", "question", "sentence1", "text1", "question1",
    "premise", "#1string", "string1", "body", "comment", "tweet", "message", "headline", "document", "title",
)  # fmt: skip
LABEL = (
    "label", "labels", "category", "intent", "class", "target", "sentiment", "topic", "emotion", "quality", "labeltext",
    "y",
)  # fmt: skip
SCORE = ("score", "similarity", "similarityscore", "relatednessscore", "label", "quality", "target")
PAIR = ("sentence2", "text2", "question2", "hypothesis", "#2string", "string2", "pair")
TOKENS = ("tokens", "words", "token", "word")
TAGS = ("nertags", "tags", "labels", "postags", "tag", "ner")


@dataclass(frozen=True)
class Columns:
    """Names of the columns that a task reads."""

    texts: list[str]
    label: str | None = None
    pair: str | None = None


def simple(name: str) -> str:
    """A column name as it is compared: no case, blanks, dashes, underscores."""
    return re.sub(r"[\s_-]", "", name.casefold())


def has_header(rows: list[list[str]], source: Source) -> bool:
    """Whether the first row names columns: as the source says, else it holds a usual name or one that was asked for."""
    if source.header is not None:
        return source.header
    first = {simple(cell) for cell in rows[0]}
    asked = [source.label, source.pair, *(source.text if isinstance(source.text, list) else [source.text])]
    if any(isinstance(name, str) for name in asked):
        return True
    return bool(first & {*TEXT, *LABEL, *SCORE, *PAIR})


def find(table: Table, names: Iterable[str]) -> str | None:
    """The column of ``table`` that goes by the first of ``names`` which is there."""
    by_name = {simple(column): column for column in reversed(table.columns)}
    return next((by_name[name] for name in names if name in by_name), None) if table.named else None


def asked(table: Table, key: str | int) -> str:
    """The column that was asked for by name or number; DataError lists those that exist."""
    columns = list(table.columns)
    if isinstance(key, int):
        if 0 <= key < len(columns):
            return columns[key]
    elif key in table.columns:
        return key
    else:
        same = [column for column in columns if simple(column) == simple(key)]
        if len(same) == 1:
            return same[0]
    near = get_close_matches(str(key), columns, n=1)
    listed = ", ".join(columns) if table.named else f"{len(columns)} columns without names, 0 to {len(columns) - 1}"
    raise DataError(
        f"data file {table.where}",
        found=f"no column `{key}`",
        expected=f"one of {listed}",
        fix=f"Did you mean `{near[0]}`?" if near else "Name the column with `text:`, `label:` or `pair:`.",
    )


def _guess(table: Table, need: str) -> DataError:
    listed = ", ".join(table.columns) if table.named else f"{len(table.columns)} columns without names"
    return DataError(
        f"data file {table.where}",
        found=f"no column for the {need} among {listed}",
        expected="a column with one of the usual names, such as sentence, text, label, category, intent",
        fix=f"Name it with `{'text' if need == 'text' else 'label'}:` of this source.",
    )


def for_classify(table: Table, source: Source) -> Columns:
    """Text and label. Of two columns without usual names, the one with the longer cells is the text."""
    if isinstance(source.text, list) or source.pair is not None:
        field = "pair" if source.pair is not None else "text"
        raise DataError(
            f"data file {table.where}",
            found=f"`{field}: {source.pair if field == 'pair' else source.text}`",
            expected="one text column: task classify reads one text",
            fix="Name one column, or use task embed.",
        )
    text = asked(table, source.text) if source.text is not None else find(table, TEXT)
    label = asked(table, source.label) if source.label is not None else find(table, LABEL)
    names = list(table.columns)
    if len(names) == 2 and (text is None or label is None):
        if text is None and label is None:
            text = max(names, key=lambda name: sum(len(str(cell)) for cell in table.columns[name]))
            label = names[1 - names.index(text)]
            table.rules.append(f"{table.name}: no usual column names; the longer of two columns is the text")
        elif text is None:
            text = names[1 - names.index(str(label))]
        else:
            label = names[1 - names.index(text)]
    if text is None:
        raise _guess(table, "text")
    if label is None or label == text:
        raise _guess(table, "label")
    return Columns([text], label)


def for_embed(table: Table, source: Source) -> Columns:
    """Texts, and a scored pair where there is one. A headerless file whose third column is a number is such a file."""
    names = list(table.columns)
    pair = asked(table, source.pair) if source.pair is not None else None
    label = asked(table, source.label) if source.label is not None else None
    if isinstance(source.text, list):
        texts = [asked(table, key) for key in source.text]
    elif source.text is not None:
        texts = [asked(table, source.text)]
    elif not table.named and len(names) == 3 and numeric(table.columns[names[2]]):
        texts, pair, label = [names[0]], pair or names[1], label or names[2]
        table.rules.append(f"{table.name}: three columns without names, the last a number: sentence1, sentence2, score")
    else:
        found = find(table, TEXT) or (names[0] if len(names) == 1 else None)
        if found is None and not table.named and len(names) == 2:
            found = max(names, key=lambda name: sum(len(str(cell)) for cell in table.columns[name]))
            table.rules.append(f"{table.name}: no usual column names; the longer of two columns is the text")
        if found is None:
            raise _guess(table, "text")
        texts = [found]
        pair = pair or find(table, PAIR)
        score = label or find(table, SCORE)
        label = score if pair is not None else None
    return Columns(texts, label if pair is not None else None, pair)


def for_tag(table: Table, source: Source) -> Columns:
    """Lists of words and lists of tags."""
    if isinstance(source.text, list):
        raise DataError(f"data file {table.where}", found=f"`text: {source.text}`", expected="one column of words")
    tokens = asked(table, source.text) if source.text is not None else find(table, TOKENS)
    tags = asked(table, source.label) if source.label is not None else find(table, TAGS)
    if tokens is None or tags is None:
        raise DataError(
            f"data file {table.where}",
            found=f"columns {', '.join(table.columns)}",
            expected='lists `tokens` and `tags`, as in {"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]}',
            fix="Name them with `text:` and `label:`, or give a .conll file.",
        )
    return Columns([tokens], tags)


def numeric(values: Iterable[object]) -> bool:
    """Whether every value that is not blank reads as a number, and there is one."""
    seen = False
    for value in values:
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False
        seen = True
    return seen
