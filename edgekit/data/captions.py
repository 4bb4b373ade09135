"""Pictures with captions, from a table: a row a caption, or a row a picture with a list of captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data import columns as find
from edgekit.data.checked import read_all
from edgekit.data.pictures import SUFFIXES, PictureTextSet
from edgekit.data.tables import Table, count, read_table, short
from edgekit.errors import DataError
from edgekit.recipe import Source

IMAGE = ("image", "filename", "imagename", "imagefile", "filepath", "imagepath", "path", "file", "img", "picture",
         "photo", "key")  # fmt: skip
CAPTION = ("caption", "captions", "text", "texts", "sentence", "sentences", "comment", "comments", "description",
           "title", "alttext", "raw", "prompt")  # fmt: skip

Column = str | int


def read_captions(
    path: Path | str,
    *,
    folder: Path | str | None = None,
    image: Column | None = None,
    caption: Column | Sequence[Column] | None = None,
    format: str = "auto",
    encoding: str = "utf-8",
    limit: int | None = None,
) -> PictureTextSet:
    """The pictures and captions of a csv, tsv, jsonl or parquet file.

    ``image`` and ``caption`` name the columns (or number them); without them they go by their usual names. A cell of
    the image column is a path, relative to ``folder`` (else to the file, else to ``images`` beside it), or, in parquet,
    the bytes of a picture, alone or as ``{"bytes", "path"}``. Captions: a row each, a list in one cell, or several
    columns. ``limit`` reads the first rows only. ``rules`` of the result states what was left out and why; captions
    of one picture keep their order, and the same caption twice for one picture is kept once.
    DataError for a missing file or column, text that is not ``encoding``, an empty set, and where more than 1 % of the
    pictures cannot be read.
    """
    source = Source.model_validate({"path": str(path), "format": format, "encoding": encoding, "limit": limit})
    table = _table(Path(path).expanduser(), source, named=[image, *_several(caption)])
    image_column = find.asked(table, image) if image is not None else _image_column(table)
    caption_columns = [find.asked(table, one) for one in _several(caption)] or [_caption_column(table, image_column)]
    listed = " and ".join(f"`{one}`" for one in caption_columns)
    rules = [*table.rules, f"{table.name}: pictures in column `{image_column}`, captions in {listed}"]
    names, cells, captions = _group(table, image_column, caption_columns, rules)
    items = _items(table, cells, None if folder is None else Path(folder).expanduser(), rules)
    pictures, kept, left_out = read_all(names, items, f"data file {table.where}", shown=table.name)
    counts = [len(captions[row]) for row in kept]
    flat = [one for row in kept for one in captions[row]]
    return PictureTextSet(pictures, flat, np.repeat(np.arange(len(kept), dtype=np.int64), counts), rules + left_out)


def _several(caption: Column | Sequence[Column] | None) -> list[Column]:
    if caption is None:
        return []
    return [caption] if isinstance(caption, (str, int)) else list(caption)


def _table(path: Path, source: Source, named: list[Column | None]) -> Table:
    """The table; a csv or tsv file has a header where its first row holds a usual name or one that was asked for."""
    table = read_table(path, source.model_copy(update={"header": False}))
    if table.named:
        return table
    first = {find.simple(str(values[0])) for values in table.columns.values()}
    if first & {*IMAGE, *CAPTION} or any(isinstance(name, str) for name in named):
        return read_table(path, source.model_copy(update={"header": True}))
    return table


def _image_column(table: Table) -> str:
    column = find.find(table, IMAGE)
    if column is None:  # no usual name: the first column all of whose cells look like picture files
        column = next((name for name, cells in table.columns.items() if all(_looks(cell) for cell in cells)), None)
        if column is not None:
            table.rules.append(f"{table.name}: column `{column}` holds the pictures, by their suffixes")
    if column is None:
        raise _missing(table, "image")
    return column


def _caption_column(table: Table, image_column: str) -> str:
    column = find.find(table, CAPTION)
    others = [name for name in table.columns if name != image_column]
    if column in (None, image_column) and len(others) == 1:
        column = others[0]
    if column is None or column == image_column:
        raise _missing(table, "caption")
    return column


def _missing(table: Table, what: str) -> DataError:
    listed = ", ".join(table.columns) if table.named else f"{len(table.columns)} columns without names"
    return DataError(
        f"data file {table.where}",
        found=f"no {what} column among {listed}",
        expected="a column with one of the usual names, such as image, filename, caption, text",
        fix=f"Name it with `{what}`.",
    )


def _looks(cell: object) -> bool:
    return isinstance(cell, str) and cell.strip().lower().endswith(SUFFIXES)


def _group(
    table: Table, image_column: str, caption_columns: list[str], rules: list[str]
) -> tuple[list[str], list[Any], list[list[str]]]:
    """Name, cell and captions of each picture, in the order of first appearance."""
    cells: dict[str, Any] = {}
    captions: dict[str, dict[str, None]] = {}
    no_picture = no_caption = repeated = 0
    for row, cell in enumerate(table.columns[image_column]):
        name = _name(table, image_column, row, cell)
        if not name:
            no_picture += 1
            continue
        texts = [text for column in caption_columns for text in _texts(table, column, row)]
        if not texts:
            no_caption += 1
            continue
        cells.setdefault(name, cell)
        own = captions.setdefault(name, {})
        repeated += sum(text in own for text in texts)
        own.update(dict.fromkeys(texts))
    for number, why in ((no_picture, "no picture"), (no_caption, "no caption (empty, NaN or broken Unicode)")):
        if number:
            rules.append(f"{table.name}: {count(number, 'row')} dropped: {why}")
    if repeated:
        rules.append(f"{table.name}: {count(repeated, 'caption')} dropped: the same picture has it already")
    if not cells:
        raise DataError(
            f"data file {table.where}",
            found=f"{count(len(table), 'row')}, none with a picture and a caption",
            expected="at least one",
            fix="Check which columns hold them.",
        )
    return list(cells), list(cells.values()), [list(own) for own in captions.values()]


def _name(table: Table, column: str, row: int, cell: Any) -> str:
    """What a picture is called: its path as written, or the row where it has bytes alone."""
    if isinstance(cell, dict) and set(cell) <= {"bytes", "path"}:
        raw, written = cell.get("bytes"), cell.get("path")
        return str(written or f"row {row}") if raw or written else ""
    if isinstance(cell, bytes):
        return f"row {row}" if cell else ""
    if cell is None or isinstance(cell, str):
        return (cell or "").strip()
    raise DataError(
        f"data file {table.where}, line {table.lines[row]}",
        found=f"{type(cell).__name__} in column `{column}`",
        expected="the path of a picture (or, in parquet, its bytes)",
        fix="Name the column of the pictures with `image`.",
    )


def _texts(table: Table, column: str, row: int) -> list[str]:
    cell = table.columns[column][row]
    texts = []
    for one in cell if isinstance(cell, list) else [cell]:
        if one is None or one != one:  # NaN
            continue
        if not isinstance(one, str):
            raise DataError(
                f"data file {table.where}, line {table.lines[row]}",
                found=f"{type(one).__name__} in column `{column}`",
                expected="a caption, or a list of captions",
                fix="Name the column of the captions with `caption`.",
            )
        if one.strip() and not any("\ud800" <= char <= "\udfff" for char in one):
            texts.append(one.strip())
    return texts


def _items(table: Table, cells: list[Any], folder: Path | None, rules: list[str]) -> list[Path | bytes]:
    """Where each picture lies. Without ``folder``, the first picture tells whether it is the file's or ``images``."""
    base = folder or Path(table.where).parent
    if folder is not None and not folder.is_dir():
        raise DataError(f"folder {folder}", found="no such folder", expected="the folder of the pictures")
    paths = [cell for cell in cells if isinstance(cell, str)]
    if folder is None and paths:
        beside = base / "images"
        if not (base / paths[0].strip()).is_file() and (beside / paths[0].strip()).is_file():
            base = beside
            rules.append(f"{table.name}: pictures lie in {short(str(beside))}")
    return [_item(base, cell) for cell in cells]


def _item(base: Path, cell: Any) -> Path | bytes:
    if isinstance(cell, dict):
        return bytes(cell["bytes"]) if cell.get("bytes") else base / str(cell["path"])
    return cell if isinstance(cell, bytes) else base / str(cell).strip()
