"""What was written is what is read, in every format; and what csv and tsv leave open is decided as stated."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.data.rows import to_rows
from edgekit.data.tables import read_table
from edgekit.recipe import Source

# Text that a row keeps: not blank, not NaN. Lone surrogates cannot be written as UTF-8.
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(
    lambda text: text.strip() and text.strip().lower() != "nan"
)
line_texts = texts.filter(lambda text: not set(text) & set("\r\n\t"))
labels = st.sampled_from(["a", "b c", "0", "-3", "ü"])
rows = st.lists(st.tuples(texts, labels), min_size=1, max_size=12)
line_rows = st.lists(st.tuples(line_texts, labels), min_size=1, max_size=12)
once = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, **fields) -> list[tuple[str, str]]:
    source = Source(path=str(path), **fields)
    found = to_rows(read_table(path, source), "classify", source)
    return list(zip(found.texts, found.labels, strict=True))


@once
@given(rows, st.sampled_from([",", "\t"]), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["utf-8", "utf-16"]))
def test_quoted_files_round_trip(tmp_path: Path, written: list, separator: str, end: str, encoding: str) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["text", "label"])
    writer.writerows(written)
    path = tmp_path / ("a.csv" if separator == "," else "a.tsv")
    path.write_bytes(buffer.getvalue().encode(encoding))
    assert read(path, encoding=encoding) == written


@once
@given(line_rows)
def test_tsv_without_quoting_round_trips_unless_it_looks_quoted(tmp_path: Path, written: list) -> None:
    written = [(text.replace('"', "''") if text.startswith('"') else text, label) for text, label in written]
    path = tmp_path / "a.tsv"
    path.write_bytes(("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in written)).encode())
    assert read(path) == written


@once
@given(rows)
def test_jsonl_round_trips(tmp_path: Path, written: list) -> None:
    records = [{"text": text, "label": label} for text, label in written]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8", newline="")
    assert read(path) == written
    path.write_text(json.dumps(records), "utf-8")  # one list is a .json file
    assert read(path) == written


@once
@given(rows)
def test_parquet_round_trips(tmp_path: Path, written: list) -> None:
    path = tmp_path / "a.parquet"
    columns = {"text": [text for text, _ in written], "label": [label for _, label in written]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    assert read(path) == written


def test_raw_quotes_in_a_tsv_are_plain_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"Never," he said.\t1\n"all of it"\t0\nfive " more\t1\n')
    assert read(path) == [('"Never," he said.', "1"), ('"all of it"', "0"), ('five " more', "1")]
    path.write_text('text\tlabel\n"opens here\t1\nand closes there"\t0\n')  # as csv this would be one broken row
    assert read(path) == [('"opens here', "1"), ('and closes there"', "0")]


def test_doubled_quotes_in_a_tsv_are_csv_quoting(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"say ""hi"" now"\t1\n"two\nlines"\t0\n')
    assert read(path) == [('say "hi" now', "1"), ("two\nlines", "0")]


def test_byte_order_mark_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\r\n\r\none,1\r\n\r\ntwo,0\r\n\r\n")
    assert read(path) == [("one", "1"), ("two", "0")]


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        ("Review,Category", {}),
        ("TEXT,Label", {}),
        ("body_text,queue", {"text": "body_text", "label": "queue"}),
        ("alpha,beta", {"header": True}),
        ("alpha,beta", {"header": True, "text": 0, "label": 1}),
        ("", {}),
        ("", {"text": 0, "label": 1}),
        ("", {"header": False}),
    ],
)
def test_headers_are_found_or_told(tmp_path: Path, header: str, fields: dict) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\na longer piece of writing,x\nanother one,y\n".lstrip("\n"))
    assert read(path, **fields) == [("a longer piece of writing", "x"), ("another one", "y")]


def test_limit_reads_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"t{n},{n}\n" for n in range(9)))
    assert read(path, limit=3) == [("t0", "0"), ("t1", "1"), ("t2", "2")]


def test_the_format_of_the_source_wins_over_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("text\tlabel\none\t1\n")
    assert read(path, format="tsv") == [("one", "1")]
