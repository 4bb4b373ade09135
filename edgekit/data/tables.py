"""Read csv, tsv, jsonl, parquet and CoNLL files into columns. Bytes are never guessed: they decode or they do not."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgekit.errors import DataError
from edgekit.recipe import Source

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".conll": "conll",
}
_FIELD_LIMIT = 2**31 - 1  # csv's own limit of 131,072 characters would refuse long texts


@dataclass
class Table:
    """Columns of equal length. ``lines`` holds the line (or record number) of each row, for messages."""

    where: str
    columns: dict[str, list[Any]]
    lines: list[int]
    named: bool = True  # False: the file had no header, columns are called 0, 1, ...
    label_names: dict[str, list[str]] = field(default_factory=dict)  # columns of class numbers: their names
    rules: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def name(self) -> str:
        """Folder and file, for rules that travel in the bundle: no paths of one machine."""
        return short(self.where)


def short(where: str) -> str:
    """The last two parts of a path."""
    return "/".join(Path(where).parts[-2:])


def count(number: int, what: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def format_of(path: Path, source: Source) -> str:
    """The format of ``path``: as the source says, else by suffix; DataError where neither tells."""
    if source.format != "auto":
        return source.format
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"data file {path}",
            found=f"suffix `{path.suffix or 'none'}`",
            expected=f"one of {', '.join(FORMATS)}",
            fix="Say what it is with `format:`.",
        )
    return kind


def read_table(path: Path, source: Source) -> Table:
    """Read one file. DataError names the file and the line or byte that is wrong."""
    if not path.is_file():
        raise missing(path)
    kind = format_of(path, source)
    try:
        table = _parquet(path) if kind == "parquet" else _text(path, kind, source)
    except OSError as error:
        raise DataError(f"data file {path}", found=error.strerror or str(error), expected="a readable file") from error
    if source.limit is not None:
        table.columns = {name: values[: source.limit] for name, values in table.columns.items()}
        table.lines = table.lines[: source.limit]
    if not len(table):
        raise DataError(f"data file {path}", found="no rows", expected="at least one", fix="Give a file with data.")
    return table


def missing(path: Path) -> DataError:
    """The error for a path that is not there, with the nearest name in its folder."""
    names = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, names, n=1)
    return DataError(
        f"data {path}",
        found="no such file or folder",
        expected="a file, a folder, a `datasets` id such as hf:imdb, or vader",
        fix=f"Did you mean {path.parent / near[0]}?" if near else "Check the path.",
    )


def decode(raw: bytes, where: str, encoding: str) -> str:
    """Bytes as text, without a byte order mark; DataError gives line and byte offset of what is not ``encoding``."""
    utf8 = codecs.lookup(encoding).name == "utf-8"
    try:
        text = raw.decode("utf-8-sig" if utf8 else encoding)
    except UnicodeDecodeError as error:
        # Offsets of the codec are relative to the end of a byte order mark that it skipped.
        start = error.start + (3 if utf8 and raw.startswith(codecs.BOM_UTF8) else 0)
        line = raw.count(b"\n", 0, start) + 1
        likely = "utf-16" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "cp1252"
        raise DataError(
            f"data file {where}, line {line}, byte {start}",
            found=f"0x{raw[start]:02x}, which is not {encoding}"
            if start < len(raw)
            else f"an end that is not {encoding}",
            expected=f"{encoding} text throughout",
            fix=f"Set `encoding:` of this source (perhaps {likely}), or save the file as UTF-8.",
        ) from error
    except UnicodeError as error:
        raise DataError(f"data file {where}", found=str(error), expected=f"{encoding} text") from error
    return text.removeprefix("\ufeff")


def _text(path: Path, kind: str, source: Source) -> Table:
    text = decode(path.read_bytes(), str(path), source.encoding)
    if kind == "jsonl":
        return _jsonl(text, str(path))
    if kind == "conll":
        return _conll(text, str(path))
    return _separated(text, str(path), kind, source)


# --- csv and tsv


def _separated(text: str, where: str, kind: str, source: Source) -> Table:
    from edgekit.data.columns import has_header  # the names that mark a header live there

    rules: list[str] = []
    rows, lines = _tsv_rows(text, where, rules) if kind == "tsv" else _rows(text, where, ",", quoted=True)
    if not rows:
        raise DataError(f"data file {where}", found="an empty file", expected="rows", fix="Give a file with data.")
    width = len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise DataError(
                f"data file {where}, line {line}",
                found=f"{len(row)} fields",
                expected=f"{width}, as in the first line",
                fix="Quote fields that hold the separator, or fix the line.",
            )
    named = has_header(rows, source)
    names = [name.strip() for name in rows[0]] if named else [str(index) for index in range(width)]
    if named:
        rows, lines = rows[1:], lines[1:]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(
                f"data file {where}, header", found=f"column `{twice[0]}` twice", expected="each column name once"
            )
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    return Table(where, columns, lines, named, rules=rules)


def _tsv_rows(text: str, where: str, rules: list[str]) -> tuple[list[list[str]], list[int]]:
    """A tsv file quotes as csv does, or not at all: quotes that do not pair up as in csv are plain characters."""
    plain = _rows(text, where, "\t", quoted=False)
    if '"' not in text:
        return plain
    try:
        quoted = _rows(text, where, "\t", quoted=True)
    except DataError:
        quoted = None
    uniform = len({len(row) for row in plain[0]}) == 1
    if quoted is None or (uniform and len(quoted[0]) != len(plain[0])):
        rules.append(f"{short(where)}: quotes are plain characters (they do not pair up as in csv)")
        return plain
    return quoted


def _rows(text: str, where: str, delimiter: str, *, quoted: bool) -> tuple[list[list[str]], list[int]]:
    rows: list[list[str]] = []
    lines: list[int] = []
    before = csv.field_size_limit(_FIELD_LIMIT)
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            strict=quoted,
        )
        last = 0
        for row in reader:
            if row:  # a blank line is no row
                rows.append(row)
                lines.append(last + 1)
            last = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"data file {where}, line {reader.line_num}",
            found=str(error),
            expected="fields quoted as in csv (a quote inside a quoted field is doubled)",
            fix="Fix the line; a tsv file may also use no quoting at all.",
        ) from error
    finally:
        csv.field_size_limit(before)
    return rows, lines


# --- jsonl, parquet, CoNLL


def _jsonl(text: str, where: str) -> Table:
    records: list[Any] = []
    lines: list[int] = []
    if text.lstrip().startswith("["):  # a .json file that holds one list
        records = _json(text, where, 1)
        lines = list(range(1, len(records) + 1))
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                records.append(_json(line, where, number))
                lines.append(number)
    for record, number in zip(records, lines, strict=True):
        if not isinstance(record, dict):
            raise DataError(
                f"data file {where}, line {number}",
                found=type(record).__name__,
                expected='one JSON object a line, such as {"text": "...", "label": "..."}',
            )
    names = list(dict.fromkeys(key for record in records for key in record))
    return Table(where, {name: [record.get(name) for record in records] for name in names}, lines)


def _json(text: str, where: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"data file {where}, line {line}",
            found=f"no JSON ({error})",
            expected="one JSON object a line",
            fix="Fix the line, or say what the file is with `format:`.",
        ) from error


def _parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        columns = pyarrow.parquet.read_table(path).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"data file {path}", found=str(error).splitlines()[0], expected="a parquet file", fix="Write it again."
        ) from error
    rows = len(next(iter(columns.values()), []))
    return Table(str(path), columns, list(range(1, rows + 1)))


def _conll(text: str, where: str) -> Table:
    """One word a line, its tag in the last column, a blank line between texts; -DOCSTART- lines are skipped."""
    tokens: list[list[str]] = []
    tags: list[list[str]] = []
    lines: list[int] = []
    fresh = True
    for number, line in enumerate(_lines(text), 1):
        parts = line.split()
        if not parts or parts[0] == "-DOCSTART-":
            fresh = True
            continue
        if len(parts) < 2:
            raise DataError(
                f"data file {where}, line {number}", found=f"`{line.strip()}`", expected="a word and its tag"
            )
        if fresh:
            tokens.append([])
            tags.append([])
            lines.append(number)
            fresh = False
        tokens[-1].append(parts[0])
        tags[-1].append(parts[-1])
    return Table(where, {"tokens": tokens, "tags": tags}, lines)


def _lines(text: str) -> Iterable[str]:
    return text.replace("\r\n", "\n").split("\n")
