"""The verbs on a real bundle, and the JSON that other programs rely on."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from pathlib import Path

import pytest

from edgekit.bundle import Manifest, open_bundle, write

TEXT = "a charming, funny film"


def test_run_answers_texts(edgekit, small_bundle: Path) -> None:
    done = edgekit("run", small_bundle, TEXT, "no", "--format", "json")
    assert done.code == 0
    found = done.json
    assert found["schema_version"] == 1
    assert [row["text"] for row in found["rows"]] == [TEXT, "no"]
    assert found["rows"][0]["label"] in ("negative", "neutral", "positive")
    assert 1 / 3 <= found["rows"][0]["score"] <= 1


def test_run_shows_as_many_labels_as_asked(edgekit, small_bundle: Path) -> None:
    top = edgekit("run", small_bundle, TEXT, "--top-k", "3", "--format", "json").json["rows"][0]["top"]
    assert len(top) == 3
    assert sum(item["score"] for item in top) == pytest.approx(1, abs=1e-5)
    table = edgekit("run", small_bundle, TEXT, "--top-k", "3").out
    assert table.count(TEXT) == 3


def test_run_reads_stdin_line_by_line(edgekit, small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO("first\r\nzwölf\n".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    rows = edgekit("run", small_bundle, "-", "--format", "json").json["rows"]
    assert [row["text"] for row in rows] == ["first", "zwölf"]


def test_run_names_the_bad_byte_of_stdin(edgekit, small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\nbad \xff\n")))
    done = edgekit("run", small_bundle, "-")
    assert done.code == 2
    assert "stdin line 2" in done.error
    assert "byte 4" in done.error


def test_run_warns_in_one_line_when_an_engine_is_passed_over(edgekit, small_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(small_bundle)
    value = bundle.manifest.to_dict()
    value["models"] = [{**value["models"][0], "path": "recipe.yaml"}, *value["models"]]
    files = {one.path: small_bundle / one.path for one in bundle.manifest.files}
    write(tmp_path / "x.edge", Manifest.from_dict(value), files)
    done = edgekit("run", tmp_path / "x.edge", TEXT, "--format", "json")
    assert done.code == 0
    assert done.json["engine"] == "onnxruntime"
    assert done.json["file"] == "models/fp32.onnx"
    (line,) = done.err.splitlines()
    assert line.startswith(
        "warning: x.edge: onnxruntime serves with models/fp32.onnx. Passed over: onnxruntime (recipe"
    )


def test_verify_passes_and_fails(edgekit, small_bundle: Path, tmp_path: Path) -> None:
    found = edgekit("verify", small_bundle, "--format", "json").json
    assert found["ok"] is True
    assert {"name", "ok", "detail"} <= set(found["checks"][0])
    copy = tmp_path / "copy.edge"
    shutil.copytree(small_bundle, copy)
    data = bytearray((copy / "models/fp32.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "models/fp32.onnx").write_bytes(bytes(data))
    done = edgekit("verify", copy, "--format", "json")
    assert done.code == 4
    assert done.json["ok"] is False
    assert "fp32.onnx" in done.err


def test_profile_json(edgekit, small_bundle: Path) -> None:
    done = edgekit("profile", small_bundle, "--lengths", "8,16", "--runs", "5", "--seconds", "0", "--format", "json")
    found = done.json
    assert found["schema_version"] == 1
    assert found["environment"]["cpu"]
    assert [row["length"] for row in found["rows"]] == [8, 16]
    assert len(found["rows"][0]["samples_ms"]) == 5
    assert found["choice"]["engine"] == "onnxruntime"
    assert found["failed"] == []


def test_profile_says_what_it_would_choose(edgekit, small_bundle: Path) -> None:
    flags = ["--engine", "onnxruntime", "--threads", "1,2", "--lengths", "8", "--runs", "3", "--seconds", "0"]
    done = edgekit("profile", small_bundle, *flags)
    assert done.code == 0
    assert done.out.count("models/fp32.onnx") == 2
    assert "choice: onnxruntime, models/fp32.onnx, threads " in done.err
    assert "litert" in edgekit("profile", small_bundle, "--engine", "onnxruntime,litert").error


def test_profile_refuses_what_the_bundle_does_not_have(edgekit, small_bundle: Path) -> None:
    done = edgekit("profile", small_bundle, "--precision", "w8a8")
    assert done.code == 2
    assert "w8a8" in done.error
    assert "fp32" in done.error
    assert "--lengths" in edgekit("profile", small_bundle, "--lengths", "a,b").error


def test_csv_and_markdown(edgekit, small_bundle: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(edgekit("verify", small_bundle, "--format", "csv").out)))
    assert rows[0]["ok"] == "True"
    assert edgekit("verify", small_bundle, "--format", "md").out.startswith("|")


def test_eval_of_bundle_and_teacher(edgekit, small_bundle: Path, tmp_path: Path) -> None:
    lines = ["sentence,label"] + [f"film number {i} was fine,{['negative', 'positive'][i % 2]}" for i in range(20)]
    data = tmp_path / "test.csv"
    data.write_text("\n".join(lines) + "\n")
    done = edgekit("eval", small_bundle, "-d", data, "--teacher", "--format", "json")
    assert done.code == 0, done.err
    ours, teacher = done.json["rows"]
    assert [ours[key] for key in ("file", "engine", "precision")] == ["models/fp32.onnx", "onnxruntime", "fp32"]
    assert ours["n"] == 20
    assert teacher["engine"] == "torch"
    assert ours["metric"] == "accuracy"
    assert ours["low"] <= ours["value"] <= ours["high"]
    assert ours["value"] == teacher["value"], "the same weights in two engines"


def test_eval_names_labels_it_does_not_know(edgekit, small_bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "test.csv"
    data.write_text("text,label\nfine,great\nbad,negative\n")
    done = edgekit("eval", small_bundle, "-d", data)
    assert done.code == 2
    assert "great" in done.error


def test_eval_wants_the_columns_that_were_named(edgekit, small_bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "test.csv"
    data.write_text("text,body,label\nfine,x,positive\nbad,y,negative\n")
    done = edgekit("eval", small_bundle, "-d", data, "--text-column", "bodi")
    assert done.code == 2
    assert "bodi" in done.error
    assert edgekit("eval", small_bundle, "-d", data, "--text-column", "body").code == 0


def test_report_forms(edgekit, small_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    assert edgekit("report", small_bundle, "-o", target).code == 0
    assert target.read_text().startswith("<!doctype html>")
    again = edgekit("report", small_bundle, "-o", target)
    assert again.code == 2
    assert "--overwrite" in again.error
    assert edgekit("report", small_bundle, "-o", target, "--overwrite").code == 0
    assert "| export |" in edgekit("report", small_bundle, "--format", "md").out
    assert edgekit("report", small_bundle, small_bundle, "--format", "json").json["bundles"][1]["name"] == "small"


def test_devices_and_doctor(edgekit) -> None:
    assert edgekit("devices", "--format", "json").json["local"]["usable_cpus"] >= 1
    assert "instruction set" in edgekit("doctor").out


@pytest.mark.slow
def test_dry_run_prints_a_recipe_that_can_be_run(edgekit, tmp_path: Path, minilm: Path) -> None:
    data = tmp_path / "train.csv"
    rows = [f"film number {i} was {word},{word}" for i in range(40) for word in ("good", "bad")]
    data.write_text("text,label\n" + "\n".join(rows) + "\n")
    flags = ["-m", str(minilm), "-t", "classify", "-d", str(data), "--layers", "2", "--set", "stages.prune.ffn=0.5"]
    done = edgekit("compress", *flags, "--dry-run", "--cache-dir", tmp_path / "cache")
    assert done.code == 0, done.err
    assert "# distill" in done.out
    recipe = tmp_path / "again.yaml"
    recipe.write_text(done.out)
    again = edgekit("compress", recipe, "--dry-run", "--format", "json", "--cache-dir", tmp_path / "cache")
    assert again.code == 0, again.err
    again = again.json
    assert again["recipe"]["student"]["layers"] == 2
    assert again["recipe"]["stages"]["prune"]["ffn"] == 0.5
    assert {"stage", "what", "estimate_s", "basis", "cached"} <= set(again["plan"][0])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["nosuch.yaml"], "nosuch.yaml"),
        (["--set", "stages.teach"], "--set"),
        (["--set", "stages.teech.epochs=1"], "teech"),
        (["--precision", "int4"], "int4"),
        (["--budget", "acc>=lots"], "acc>=lots"),
        (["--stages", "distil"], "distil"),
    ],
)
def test_compress_names_the_flag_that_is_wrong(edgekit, flags: list[str], named: str) -> None:
    done = edgekit("compress", *flags, "--dry-run")
    assert done.code == 2
    assert named in done.error
