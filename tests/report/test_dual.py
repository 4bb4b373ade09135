"""The report of a dual encoder: both directions of retrieval, each tower's file, words that fit pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgekit.bundle import StageRecord, open_bundle
from edgekit.bundle import write as write_bundle
from edgekit.report import figures, html, markdown, read
from tests.clip_bundles import LABELS, ONNX

RETRIEVED = {f"{way}_r{k}": k / 20 for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)}
TOWERS = {
    "image": {"precision": "w8a8", "chosen": "static", "fp32_p50_ms": 4.0, "p50_ms": 1.5},
    "text": {"precision": "fp32", "chosen": "", "reason": "fp32 was asked for"},
}


def told(source: Path, target: Path) -> Path:
    """``source`` as if its file were INT8, with stages that say what was measured."""
    bundle = open_bundle(source)
    files: dict[str, Path | bytes] = {one.path: source / one.path for one in bundle.manifest.files}
    common = {"metric": "recall_at_1", "value": 0.25, "low": 0.2, "high": 0.3, "n": 40}
    stages = [
        StageRecord("teach", True, "first", size_bytes=10**6, p50_ms=9.0, details=dict(RETRIEVED), **common),
        StageRecord("quantize", True, "static", agreement=0.9, size_bytes=10**5, p50_ms=3.0,
                    details={**RETRIEVED, "towers": TOWERS}, **common),
    ]  # fmt: skip
    models = [dataclasses.replace(one, precision="w8a8") for one in bundle.manifest.models]
    write_bundle(target, dataclasses.replace(bundle.manifest, models=models, stages=stages), files)
    return target


@pytest.fixture(scope="module")
def whole(clip_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return told(clip_bundle, tmp_path_factory.mktemp("dual-report") / "whole.edge")


def test_retrieval_both_ways_and_each_tower_are_shown(whole: Path) -> None:
    data = [read(whole)]
    text, page = markdown(data), html(data)
    assert "| stage | text to picture, R@1 | text to picture, R@5 |" in text
    assert "| teach | 5.0 % | 25.0 % | 50.0 % | 5.0 % | 25.0 % | 50.0 % | 40 |" in text
    sizes = {one.path: one.bytes for one in open_bundle(whole).manifest.files}
    size = figures.size(sizes[ONNX])
    assert f"| image | onnxruntime | {ONNX} | fp32 | {size} | static | 4 ms | 1.5 ms |" in text
    assert "| fp32 was asked for |" in text
    assert "25.0 % [20.0, 30.0]" in text, "recall is a share"
    for words in ("text to picture, R@1", "models/fp32.text.onnx", "Latency p50, a picture and a caption"):
        assert words in page
    for words in ("one text", "text to answer"):
        assert words not in page and words not in text


def test_a_bundle_without_a_text_tower_says_what_it_knows(clip_bank: Path, tmp_path: Path) -> None:
    data = [read(told(clip_bank, tmp_path / "bank.edge"))]
    text, page = markdown(data), html(data)
    for shown in (text, page):
        assert "3 labels are packed, each in 1 templates" in shown and LABELS[0] in shown
        assert "No text tower is packed: no other text is known." in shown
        assert "models/fp32.text.onnx" not in shown
    assert "Latency p50, a picture<" in page and "One inference: a picture." in text


def test_reports_of_texts_keep_their_words(small_bundle: Path) -> None:
    data = [read(small_bundle)]
    assert "Retrieval" not in html(data) and "Towers" not in markdown(data) and "Prompt bank" not in markdown(data)
    assert "batch 1, text to answer" in html(data)


def test_how_near_a_cached_teacher_is_has_a_column(clip_bank: Path, tmp_path: Path) -> None:
    data = read(told(clip_bank, tmp_path / "near.edge"))
    assert "cosine to teacher" not in markdown([data])
    data["stages"][0]["details"]["cosine_to_teacher"] = 0.81937
    text = markdown([data])
    assert "| cosine to teacher | pictures |" in text and "| 50.0 % | 0.8194 | 40 |" in text
    assert "cosine to teacher" in html([data])


def test_a_bundle_of_pictures_alone_is_asked_with_pictures(clip_bank: Path, tmp_path: Path) -> None:
    bundle = open_bundle(told(clip_bank, tmp_path / "bank.edge"))
    files: dict[str, Path | bytes] = {
        one.path: bundle.root / one.path for one in bundle.manifest.files if one.path != "prompts.safetensors"
    }
    write_bundle(tmp_path / "alone.edge", bundle.manifest, files)
    text = markdown([read(tmp_path / "alone.edge")])
    assert "One inference: a picture." in text and "Prompt bank" not in text
