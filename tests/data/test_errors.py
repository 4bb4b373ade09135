"""Every way in which a data set can be wrong: the error names the place and what to do; exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from edgekit.data import load_eval
from edgekit.errors import DataError, EdgekitError, MissingDependencyError

from .conftest import table

GOOD = table(40)


def refused(splits, path, task: str = "classify", **fields) -> str:
    with pytest.raises(DataError) as caught:
        splits(path, task, **fields)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_file_that_is_not_there_is_told_with_the_nearest_name(put, splits) -> None:
    path = put("reviews.csv", GOOD)
    message = refused(splits, path.with_name("review.csv"))
    assert "no such file" in message
    assert "Did you mean" in message
    assert "reviews.csv" in message


def test_a_mistyped_relative_path_is_not_taken_for_a_hub_id(put, splits, monkeypatch, tmp_path: Path) -> None:
    put("data/train.csv", GOOD)
    monkeypatch.chdir(tmp_path)
    assert "no such file" in refused(splits, "data/trian")
    assert "no such file" in refused(splits, "dta/train.csv")


def test_an_unknown_suffix_is_told(put, splits) -> None:
    assert "`format:`" in refused(splits, put("reviews.xlsx", GOOD))


def test_a_file_in_another_format_is_told(put, splits) -> None:
    assert "no JSON" in refused(splits, put("a.jsonl", GOOD))
    assert "parquet" in refused(splits, put("a.parquet", GOOD))
    assert "line 1" in refused(splits, put("list.jsonl", "[1, 2]\n"))


@pytest.mark.parametrize("content", ["", "text,label\n", "\n\n"])
def test_an_empty_file_is_told(put, splits, content: str) -> None:
    assert "empty" in (message := refused(splits, put("a.csv", content))) or "no rows" in message


@pytest.mark.parametrize("field", ["text", "label"])
def test_a_missing_column_is_told_with_those_that_exist(put, splits, field: str) -> None:
    message = refused(splits, {"path": put("a.csv", GOOD), field: "lable"})
    assert "no column `lable`" in message
    assert "text, label" in message
    assert "Did you mean `label`?" in message


def test_a_column_number_out_of_range_is_told(put, splits) -> None:
    assert "no column `7`" in refused(splits, {"path": put("a.csv", GOOD), "label": 7})


def test_columns_that_cannot_be_told_apart_are_told(put, splits) -> None:
    assert "alpha, beta, gamma" in refused(splits, {"path": put("a.csv", "alpha,beta,gamma\nx,y,z\n"), "header": True})


def test_one_class_only_is_told(put, splits) -> None:
    assert "one class only, `class0`" in refused(splits, put("a.csv", table(20, classes=1)))


def test_a_label_not_seen_in_training_is_told(put, splits) -> None:
    test = put("test.csv", "text,label\nsomething else,class9\n")
    message = refused(splits, put("a.csv", GOOD), test=test)
    assert "label `class9`, which was not seen in training" in message
    assert "test.csv, line 2" in message
    assert "class0, class1" in message
    with pytest.raises(DataError, match="class9"):
        load_eval(str(test), "classify", ["class0", "class1"])


def test_bytes_of_another_encoding_are_told_with_their_place(put, splits) -> None:
    raw = GOOD.encode() + "caf\xe9 society,class0\n".encode("cp1252")
    message = refused(splits, put("mixed.csv", raw))
    assert f"line 42, byte {len(GOOD) + 3}" in message
    assert "0xe9" in message
    assert "encoding:" in message
    assert "utf-16" in refused(splits, put("wide.csv", GOOD.encode("utf-16")))


def test_the_right_encoding_reads_them(put, splits) -> None:
    cp1252 = put("a.csv", (GOOD + "caf\xe9,class0\n").encode("cp1252"))
    read = splits({"path": cp1252, "encoding": "cp1252"})
    assert any("café" in part.texts for part in (read.train, read.validation, read.test))
    wide = put("wide.csv", GOOD.encode("utf-16"))
    assert len(splits({"path": wide, "encoding": "utf-16"}).train)


def test_a_line_with_another_number_of_fields_is_told(put, splits) -> None:
    message = refused(splits, put("a.csv", GOOD + "one, two, three\n"))
    assert "line 42" in message
    assert "3 fields" in message


def test_a_quote_that_never_closes_is_told(put, splits) -> None:
    assert "quoted as in csv" in refused(splits, put("a.csv", GOOD + '"open,class0\n'))


def test_broken_json_is_told_with_its_line(put, splits) -> None:
    rows = json.dumps({"text": "a", "label": 1}) + "\n"
    assert "line 3" in refused(splits, put("a.jsonl", rows * 2 + '{"text": "b", \n'))


@pytest.mark.parametrize("value", [3, 2.5, ["a"], {"b": 1}, True])
def test_what_is_not_text_is_told(put, splits, value: object) -> None:
    rows = [{"text": f"t{n}", "label": n % 2} for n in range(20)] + [{"text": value, "label": 1}]
    message = refused(splits, put("a.jsonl", "\n".join(map(json.dumps, rows))))
    assert "line 21" in message
    assert "expected text" in message


def test_scores_are_no_classes(put, splits) -> None:
    message = refused(splits, put("a.csv", "text,label\nx,1\ny,2\nz,3.8\n"))
    assert "3.8" in message
    assert "line 4" in message


def test_several_labels_a_text_are_told(put, splits) -> None:
    rows = "\n".join(json.dumps({"text": f"t{n}", "label": [n % 2, 3]}) for n in range(9))
    assert "one label a text" in refused(splits, put("a.jsonl", rows))


def test_two_columns_of_the_same_name_are_told(put, splits) -> None:
    assert "twice" in refused(splits, put("a.csv", "text,label,text\na,b,c\n"))


def test_too_few_rows_to_cut_from_are_told(put, splits) -> None:
    assert "too few" in refused(splits, put("a.csv", table(2)))


def test_test_data_that_are_the_training_data_are_told(put, splits) -> None:
    path = put("a.csv", GOOD)
    assert "texts of its own" in refused(splits, path, test=path)


def test_a_folder_without_a_training_file_is_told(put, splits) -> None:
    folder = put("d/one.csv", GOOD).parent
    put("d/two.csv", GOOD)
    assert "one.csv, two.csv" in refused(splits, folder)


def test_a_folder_with_two_training_files_is_told(put, splits) -> None:
    folder = put("d/train.csv", GOOD).parent
    put("d/train.tsv", table(9, separator="\t"))
    assert "train.csv, train.tsv" in refused(splits, folder)


def test_pairs_are_refused_for_classify(put, splits) -> None:
    path = put("a.csv", "text,other,label\na,b,c\n")
    assert "reads one text" in refused(splits, {"path": path, "pair": "other"})
    assert "reads one text" in refused(splits, {"path": path, "text": ["text", "other"]})


def test_a_score_that_is_no_number_is_told(put, splits) -> None:
    rows = "sentence1,sentence2,score\na,b,1.5\nc,d,high\n"
    assert "`high` in score column" in refused(splits, put("a.csv", rows), "embed")
    assert "a number" in refused(splits, put("b.csv", rows.replace("high", "inf")), "embed")


@pytest.mark.parametrize(
    "record",
    [
        {"tokens": ["a", "b"], "tags": ["O"]},
        {"tokens": "a b", "tags": ["O", "O"]},
        {"tokens": ["a", "b"], "tags": None},
        {"tokens": ["a", 3], "tags": ["O", "O"]},
        {"tokens": ["a", "b"], "tags": ["O", 0.5]},
    ],
)
def test_words_and_tags_that_do_not_fit_are_told(put, splits, record: dict) -> None:
    good = json.dumps({"tokens": ["in", "Rome"], "tags": ["O", "B"]})
    message = refused(splits, put("a.jsonl", f"{good}\n{json.dumps(record)}\n"), "tag")
    assert "line 2" in message


def test_a_conll_line_without_a_tag_is_told(put, splits) -> None:
    assert "line 2" in refused(splits, put("a.conll", "in O\nRome\n"), "tag")


def test_data_without_words_is_told_for_tag(put, splits) -> None:
    assert "tokens" in refused(splits, put("a.csv", GOOD), "tag")
    assert "expected classify or embed" in refused(splits, "vader", "tag")


def test_a_parquet_cut_short_is_told(put, splits, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"] * 100, "label": [1] * 100}), tmp_path / "a.parquet")
    raw = (tmp_path / "a.parquet").read_bytes()
    assert "parquet" in refused(splits, put("b.parquet", raw[: len(raw) // 2]))


def test_rows_of_nothing_are_told(put, splits) -> None:
    assert "none of them usable" in refused(splits, put("a.csv", "text,label\n ,x\n,y\n"))


@pytest.mark.parametrize("path", ["hf:", "hf:a:b:c:d", "hf:../x"])
def test_a_hub_id_of_another_form_is_told(splits, path: str) -> None:
    assert "hf:NAME[:config][:split]" in refused(splits, path)


def test_a_hub_id_that_cannot_be_had_is_told(splits, monkeypatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with pytest.raises((DataError, MissingDependencyError)) as caught:
        splits("hf:edgekit-nobody/no-such-data")
    assert "datasets" in str(caught.value)


def test_any_bytes_under_any_suffix_are_read_or_refused(put, splits) -> None:
    rubbish = [
        b"\x00",
        b"\xff\xfe\x00",
        b"PAR1",
        b'{"a":',
        b'"',
        b"\t\t\n\t",
        b"[]",
        b"[{}]",
        b"{}",
        b"a\x00b,c\nd,e\n",
    ]
    for suffix in ("csv", "tsv", "jsonl", "parquet", "conll"):
        for number, raw in enumerate(rubbish):
            for task in ("classify", "embed", "tag"):
                with pytest.raises(EdgekitError):
                    splits(put(f"{number}.{suffix}", raw), task)
