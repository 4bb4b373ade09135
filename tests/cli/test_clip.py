"""Pictures on the command line: labels, indexes, profiles, scores; and the JSON that other programs rely on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.clip_bundles import DIM, EXAMPLES, LABELS, ONNX


@pytest.fixture(scope="module")
def place(clip_bundle: Path, clip_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clip.edge, bank.edge (no text tower), pictures and captions.tsv. Shared: write elsewhere."""
    root = tmp_path_factory.mktemp("clip-cli")
    for bundle in (clip_bundle, clip_bank):
        shutil.copytree(bundle, root / bundle.name)
    (root / "pictures").mkdir()
    lines = ["image\tcaption"]
    for number, (picture, caption) in enumerate(EXAMPLES):
        Image.fromarray(picture).save(root / "pictures" / f"{number}.png")
        lines.append(f"pictures/{number}.png\t{caption}")
    (root / "captions.tsv").write_text("\n".join(lines) + "\n")
    (root / "pictures/broken.jpg").write_text("no picture")
    return root


def test_labels_of_pictures(edgekit, place: Path) -> None:
    one, two = place / "pictures/0.png", place / "pictures/1.png"
    done = edgekit("run", place / "clip.edge", "--image", one, "--image", two, "--labels", "a cat, a dog", "--top-k", 2,
                   "--format", "json")  # fmt: skip
    assert done.code == 0, done.err
    assert (done.json["task"], done.json["file"]) == ("clip", ONNX)
    rows = done.json["rows"]
    assert [row["image"] for row in rows] == [str(one), str(two)]
    for row in rows:
        assert {item["label"] for item in row["top"]} == {"a cat", "a dog"}
        assert sum(item["score"] for item in row["top"]) == pytest.approx(1, abs=1e-5)
        assert row["label"] == row["top"][0]["label"] and row["score"] >= 0.5
    other = edgekit("run", place / "clip.edge", "--image", one, "--labels", "a cat,a dog", "--templates", "one {} more",
                    "--format", "json")  # fmt: skip
    assert other.json["rows"][0]["cosine"] != rows[0]["cosine"]


def test_the_banks_labels_are_the_default(edgekit, place: Path) -> None:
    done = edgekit("run", place / "bank.edge", "--image", place / "pictures/0.png", "--format", "json")
    assert {item["label"] for item in done.json["rows"][0]["top"]} == set(LABELS)
    refused = edgekit("run", place / "bank.edge", "--image", place / "pictures/0.png", "--labels", "a cat")
    assert refused.code == 2 and "a prompt bank of 3" in refused.error


def test_an_index_is_built_and_searched_both_ways(edgekit, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.index"
    built = edgekit("index", place / "clip.edge", place / "pictures", "-o", out, "--format", "json")
    assert built.code == 0, built.err
    assert (built.json["pictures"], built.json["added"]) == (6, 6)
    assert [one["name"] for one in built.json["skipped"]] == ["broken.jpg"] and "broken.jpg" in built.err
    again = edgekit("index", place / "clip.edge", place / "pictures", "-o", out, "--format", "json").json
    assert (again["added"], again["kept"]) == (0, 6)
    hits = edgekit("run", place / "clip.edge", "--index", out, "--image", place / "pictures/2.png", "--format", "json")
    (row,) = hits.json["rows"]
    assert row["name"] == "2.png" and row["cosine"] == pytest.approx(1, abs=1e-5) and len(row["top"]) == 6
    texts = edgekit("run", place / "clip.edge", "--index", out, "stripes", "a dot", "--top-k", 3, "--format", "json")
    assert [row["query"] for row in texts.json["rows"]] == ["stripes", "a dot"]
    assert [len(row["top"]) for row in texts.json["rows"]] == [3, 3]
    other = edgekit("run", place / "bank.edge", "--index", out, "a red square")
    assert other.code == 2 and "index" in other.error, "made by other files"


def test_embeddings_where_nothing_else_is_asked(edgekit, place: Path) -> None:
    rows = edgekit("run", place / "clip.edge", "stripes", "--format", "json").json["rows"]
    assert len(rows[0]["embedding"]) == DIM
    rows = edgekit("run", place / "clip.edge", "--image", place / "pictures/0.png", "--format", "json").json["rows"]
    assert len(rows[0]["embedding"]) == DIM and "embedding" in rows[0]


def test_what_does_not_go_together_is_named(edgekit, place: Path, small_bundle: Path, tmp_path: Path) -> None:
    one = place / "pictures/0.png"
    for arguments, message in (
        ((small_bundle, "--image", one, "--labels", "a"), "expected clip"),
        ((place / "clip.edge", "a text", "--labels", "a"), "expected --image"),
        ((place / "clip.edge", "--image", one, "--templates", "a {}"), "no --labels"),
        ((place / "clip.edge", "--image", place / "pictures/broken.jpg", "--labels", "a"), "no picture"),
        ((place / "clip.edge", "--index", one, "a text"), "0.png"),
    ):
        done = edgekit("run", *arguments)
        assert done.code == 2 and message in done.error
    done = edgekit("index", small_bundle, place / "pictures", "-o", tmp_path / "x")
    assert done.code == 2 and "expected clip" in done.error


def test_a_profile_has_rows_of_both_towers(edgekit, place: Path, tmp_path: Path) -> None:
    edgekit("index", place / "clip.edge", place / "pictures", "-o", tmp_path / "x.index")
    done = edgekit("profile", place / "clip.edge", "--runs", 4, "--seconds", 0, "--lengths", "8", "--image",
                   place / "pictures/0.png", "--index", tmp_path / "x.index", "--format", "json")  # fmt: skip
    assert done.code == 0, done.err
    image, text = done.json["rows"]
    assert (image["tower"], text["tower"], image["length"], text["tokens"]) == ("image", "text", None, 8)
    for row, parts in ((image, ["decode"]), (text, [])):
        for part in (*parts, "preprocess", "model", "postprocess", "search"):
            assert 0 < row[f"{part}_p50_ms"] <= row["p50_ms"]
    assert "decode_p50_ms" not in text
    assert "a picture and a text of 8 tokens" in done.json["choice"]["why"]
    refused = edgekit("profile", place / "bank.edge", "--runs", 1, "--lengths", "99")
    assert refused.code == 2


def test_recall_of_captions(edgekit, place: Path) -> None:
    done = edgekit("eval", place / "clip.edge", "-d", place / "captions.tsv", "--format", "json")
    assert done.code == 0, done.err
    (row,) = done.json["rows"]
    assert (row["metric"], row["n"]) == ("recall_at_1", 6) and 0 <= row["low"] <= row["value"] <= row["high"] <= 1


def test_recall_of_the_teacher_beside_the_bundle(edgekit, place: Path) -> None:
    given = ("-d", place / "captions.tsv", "--format", "json")
    done = edgekit("eval", place / "clip.edge", *given, "--teacher")
    assert done.code == 0, done.err
    mine, teacher = done.json["rows"]
    assert (teacher["file"], teacher["engine"], teacher["precision"]) == ("new", "torch", "fp32")
    assert teacher["value"] == pytest.approx(mine["value"]), "the bundle is the teacher's own fp32"
    assert set(teacher["details"]) == set(mine["details"])
    gone = edgekit("eval", place / "bank.edge", *given, "--teacher")
    assert gone.code == 2 and "its teacher" in gone.error
    alone = edgekit("eval", place / "bank.edge", *given)
    assert alone.code == 2 and "no text tower" in alone.err
