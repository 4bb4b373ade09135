"""The rules: what is dropped, cut or decided is stated, and the parts never share a text."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.data import fold, load_eval
from edgekit.data.sets import natural
from edgekit.data.split import cut, quotas
from edgekit.recipe import DataConfig

from .conftest import table


def test_rows_without_text_or_label_are_dropped_and_counted(put, splits) -> None:
    bad = " ,class0\nNaN,class1\nlonely,\nlost,nan\n"
    read = splits(put("a.csv", table(40) + bad))
    assert len(read.train) + len(read.validation) + len(read.test) == 40
    assert any("2 rows dropped: no text" in rule for rule in read.rules)
    assert any("2 rows dropped: no label" in rule for rule in read.rules)


def test_nan_in_a_parquet_is_dropped_and_counted(splits, tmp_path: Path) -> None:
    texts = [f"t{n}" for n in range(30)] + [None, "last"]
    labels = [float(n % 3) for n in range(30)] + [1.0, float("nan")]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": labels}), tmp_path / "a.parquet")
    read = splits(tmp_path / "a.parquet")
    assert read.names == ["0", "1", "2"]
    assert sum("1 row dropped" in rule for rule in read.rules) == 2


def test_half_a_surrogate_pair_is_dropped(put, splits) -> None:
    rows = [{"text": f"t{n}", "label": n % 2} for n in range(20)] + [{"text": "bad \ud83d", "label": 1}]
    read = splits(put("a.jsonl", "\n".join(map(json.dumps, rows))))
    assert any("1 row dropped" in rule for rule in read.rules)


def test_a_text_of_100_000_characters_is_read_whole_and_stated(put, splits) -> None:
    long = "word " * 20_000
    for name, content in (
        ("a.csv", table(40) + f'"{long}",class0\n'),
        ("a.tsv", table(40, separator="\t") + f"{long}\tclass0\n"),
        ("b.csv", table(40) + f"{long * 2},class0\n"),  # past what Python's csv reads as it comes
    ):
        read = splits(put(name, content))
        assert max(len(text) for part in (read.train, read.validation, read.test) for text in part.texts) >= 100_000
        assert any("00,000 characters" in rule and "windows" in rule for rule in read.rules)


def test_labels_are_one_whether_number_or_text(put, splits) -> None:
    values = [0, 1, 1.0, "1", "1.0", " 0 ", 2, 10]
    rows = [{"text": f"t{n}", "label": values[n % len(values)]} for n in range(64)]
    assert splits(put("a.jsonl", "\n".join(map(json.dumps, rows)))).names == ["0", "1", "2", "10"]


def test_names_sort_as_people_expect() -> None:
    assert natural(["b10", "b9", "a", "B"]) == ["B", "a", "b9", "b10"]
    assert natural(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert natural(["x", "1", "2b"]) == ["1", "2b", "x"]


def test_cuts_are_in_proportion_and_share_nothing(put, splits) -> None:
    lines = [f"text {n},{'rare' if n % 10 == 0 else 'often'}" for n in range(1000)]
    lines += [f"TEXT  {n},{'rare' if n % 10 == 0 else 'often'}" for n in range(0, 1000, 7)]  # the same texts, folded
    read = splits(put("a.csv", "text,label\n" + "\n".join(lines)), test_fraction=0.2)
    parts = [read.train, read.validation, read.test]
    for part in parts:
        share = np.mean(part.labels == read.names.index("rare"))
        assert 0.07 < share < 0.13
    folded = [{fold(text) for text in part.texts} for part in parts]
    assert not folded[0] & folded[1] | folded[0] & folded[2] | folded[1] & folded[2]
    assert sum(map(len, parts)) == len(lines)
    assert len(read.test) == pytest.approx(0.2 * len(lines), abs=4)


def test_cuts_follow_seed_and_texts_not_the_order_of_the_file(put, splits) -> None:
    head, *rows = table(200).splitlines()
    one = splits(put("a.csv", "\n".join([head, *rows])))
    other = splits(put("b.csv", "\n".join([head, *reversed(rows)])))
    assert set(one.test.texts) == set(other.test.texts)
    assert set(one.validation.texts) == set(other.validation.texts)
    assert set(splits(put("a.csv", "\n".join([head, *rows])), seed=1).test.texts) != set(one.test.texts)
    assert splits(put("c.csv", "\n".join([head, *rows]))).fingerprint == one.fingerprint
    assert other.fingerprint != one.fingerprint  # training sees another order


def test_max_validation_and_max_examples(put, splits) -> None:
    read = splits(put("a.csv", table(1000, classes=5)), max_validation=50, max_examples=100)
    assert len(read.validation) == 50
    assert len(read.train) == 100
    assert set(Counter(read.train.labels.tolist()).values()) == {20}
    assert any("a part of 100 of 850 texts" in rule for rule in read.rules)


def test_a_folder_brings_its_parts(put, splits) -> None:
    folder = put("d/train.csv", table(60)).parent
    put("d/dev.csv", "text,label\ndev one,class0\ndev two,class1\n")
    put("d/README", "not data")
    put("d/LICENSE", "free")
    read = splits(folder)
    assert read.test.texts == ["dev one", "dev two"]
    assert any("dev.csv is the test part" in rule for rule in read.rules)
    assert read.licences == [{"what": "data", "name": "d", "licence": "see LICENSE beside the data", "source": "d"}]
    put("d/test.csv", "text,label\ntest one,class0\n")
    read = splits(folder)
    assert read.test.texts == ["test one"]
    assert read.validation.texts == ["dev one", "dev two"]
    assert len(read.train) == 60
    assert load_eval(str(folder), "classify", read.names).texts == ["test one"]


def test_texts_in_two_parts_stay_in_the_one_that_is_reported(put, splits) -> None:
    train = put("a.csv", table(40) + "Shared  Text,class0\nother,class1\n")
    test = put("t.csv", "text,label\nshared text,class0\n")
    validation = put("v.csv", "text,label\nshared text,class0\nOTHER,class1\n")
    read = splits(train, test=test, validation=validation)
    assert read.validation.texts == ["OTHER"]
    assert len(read.train) == 40
    assert any("1 text dropped from validation: in test too" in rule for rule in read.rules)
    assert any("1 text dropped from train: in test too" in rule for rule in read.rules)
    assert any("1 text dropped from train: in validation too" in rule for rule in read.rules)


def test_texts_with_two_labels_are_stated(put, splits) -> None:
    folder = put("d/train.csv", table(40) + "torn,class0\ntorn,class1\n").parent
    put("d/dev.csv", "text,label\nx,class0\ny,class1\n")
    put("d/test.csv", "text,label\nz,class0\n")
    assert "1 text of train with more than one label; all rows were kept" in splits(folder).rules


def test_rules_name_no_path_of_the_machine(put, splits, tmp_path: Path) -> None:
    read = splits(put("d/a.csv", table(40) + ",class0\n"))
    assert any(rule.startswith("d/a.csv: ") for rule in read.rules)
    assert str(tmp_path) not in json.dumps([read.rules, read.licences, read.name])


def test_evaluation_takes_the_columns_of_the_recipe_where_they_exist(put) -> None:
    data = DataConfig.model_validate({"train": {"path": "x.csv", "text": "body", "label": "queue"}})
    special = put("a.csv", "text,body,queue\nwrong,right,class1\n")
    assert load_eval(str(special), "classify", ["class0", "class1"], data).texts == ["right"]
    usual = put("b.csv", "text,label\nplain,class1\n")
    found = load_eval(str(usual), "classify", ["class0", "class1"], data)
    assert (found.texts, found.labels.tolist()) == (["plain"], [1])


# --- embed


def test_scored_pairs_are_evaluated_and_their_texts_not_trained_on(put, splits) -> None:
    rows = "".join(f"left {n},right {n},{n % 5}.5\n" for n in range(100))
    read = splits(put("pairs.csv", rows), "embed")
    assert len(read.test) == len(read.test.pairs) == len(read.test.scores) == 10
    assert len(read.validation.pairs) == 9
    assert read.names == []
    assert len(read.train) == 200 - 2 * 19
    assert read.train.labels is None
    assert any("sentence1, sentence2, score" in rule for rule in read.rules)


def test_plain_texts_beside_pairs_are_trained_on_only(put, splits) -> None:
    plain = put("p/train.csv", table(30)).parent
    put("p/dev.csv", "text,label\nnot used here,class0\n")
    pairs = put("q/train.csv", "sentence1,sentence2,score\n" + "".join(f"l{n},r{n},{n}\n" for n in range(40))).parent
    put("q/dev.csv", "sentence1,sentence2,score\nx,y,3\nv,w,4\n")
    read = splits([plain, pairs], "embed")
    assert read.test.pairs == ["y", "w"]
    assert read.test.scores.dtype == np.float32
    assert any("files without scored pairs are left out" in rule for rule in read.rules)
    assert len(read.train) == 30 + 2 * 40 - 2 * len(read.validation)
    assert load_eval(str(pairs), "embed", []).pairs == ["y", "w"]


def test_texts_without_pairs_are_cut_as_they_are_and_repeats_go(put, splits) -> None:
    read = splits(put("a.csv", "text\n" + "".join(f"t{n}\n" for n in range(50)) * 2), "embed")
    assert read.test.pairs is None
    assert len(read.train) + (len(read.validation) + len(read.test)) // 2 == 50
    assert any("repeated text" in rule for rule in read.rules)


def test_each_column_of_a_list_is_a_text_of_its_own(put, splits) -> None:
    rows = "".join(f"t{n},b{n}\n" for n in range(20))
    read = splits({"path": put("a.csv", f"title,body\n{rows}"), "text": ["title", "body"]}, "embed")
    assert sum(map(len, (read.train, read.validation, read.test))) == 40


# --- tag


def test_words_keep_their_place_in_the_text(put, splits) -> None:
    rows = [{"tokens": ["Anna", "lives", f"in{n}", "Rome"], "tags": ["B-PER", "O", "O", "B-LOC"]} for n in range(20)]
    rows.append({"tokens": ["a", "", "nan"], "tags": ["O", "O", "B-PER"]})
    read = splits(put("a.jsonl", "\n".join(map(json.dumps, rows))), "tag")
    assert read.names == ["B-LOC", "B-PER", "O"]
    assert any("1 word dropped" in rule for rule in read.rules)
    for part in (read.train, read.validation, read.test):
        for text, spans in zip(part.texts, part.tags, strict=True):
            assert " ".join(text[start:end] for start, end, _ in spans) == text


def test_conll_and_jsonl_read_the_same(put, splits) -> None:
    records = [(["EU", f"n{n}", "call"], ["B-ORG", "O", "O"]) for n in range(20)]
    conll = "-DOCSTART- -X- O\n\n" + "\n\n".join(
        "\n".join(f"{word} NN {tag}" for word, tag in zip(*record, strict=True)) for record in records
    )
    jsonl = "\n".join(json.dumps({"tokens": words, "ner_tags": tags}) for words, tags in records)
    assert splits(put("a.conll", conll), "tag").fingerprint == splits(put("a.jsonl", jsonl), "tag").fingerprint


# --- cuts, by property


strata = st.lists(st.tuples(st.text(max_size=3), st.sampled_from("abc")), min_size=1, max_size=60)


@settings(deadline=None)
@given(strata, st.integers(0, 60), st.booleans())
def test_a_cut_never_splits_a_text_or_empties_a_stratum(rows: list, size: int, together: bool) -> None:
    texts, groups = [text for text, _ in rows], [group for _, group in rows]
    chosen = cut(texts, groups, size, "salt", together=together)
    assert len(set(chosen)) == len(chosen)
    left = [row for row in range(len(rows)) if row not in set(chosen)]
    assert left
    if together:
        assert not {fold(texts[row]) for row in chosen} & {fold(texts[row]) for row in left}
    else:
        assert len(chosen) <= size
        assert {groups[row] for row in left} == set(groups)


@given(st.dictionaries(st.text(max_size=2), st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 100))
def test_quotas_add_up(sizes: dict, size: int) -> None:
    size = min(size, sum(sizes.values()))
    got = quotas(sizes, size)
    assert all(0 <= got[name] < sizes[name] for name in sizes)
    assert sum(got.values()) == min(size, sum(sizes.values()) - len(sizes))
