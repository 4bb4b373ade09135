"""Bundles of task clip: their memory, and tolerances of both towers on older instruction sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.devices import arm_parity, emulate, older
from edgekit.devices.examples import from_json, to_json
from edgekit.devices.memory import model_rss_bytes
from edgekit.runtimes.check import golden_of
from tests.clip_bundles import EXAMPLES, ONNX


def test_examples_reach_another_process_as_they_are() -> None:
    picture, caption = from_json(to_json(EXAMPLES[1]))
    np.testing.assert_array_equal(picture, EXAMPLES[1][0])
    assert caption == EXAMPLES[1][1] and from_json(to_json("a text")) == "a text"


def test_memory_of_pictures_and_captions(clip_bundle: Path) -> None:
    peak = model_rss_bytes(clip_bundle, 1, EXAMPLES[:2], ONNX)
    assert peak is None or 40e6 < peak < 600e6


def test_each_tower_has_a_tolerance_on_older_processors(
    clip_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    able = older.levels()
    if not able:
        pytest.skip("this processor has no older instruction set that edgekit knows")
    reason = older.held(able[0])
    if isinstance(reason, str):
        pytest.skip(reason)
    monkeypatch.setattr(older, "levels", lambda: able[:1])
    found = older.tolerances(clip_bundle)
    assert [one.file for one in found] == [ONNX, "models/fp32.text.onnx"]
    stated = {one["file"]: one["max_abs"] for one in open_bundle(clip_bundle).manifest.golden["tolerances"]
              if one["isa"] == "*"}  # fmt: skip
    for one in found:
        assert one.isa == f"x86_64-{able[0]}" and one.basis == "measured"
        assert 0 < one.max_abs <= stated[one.file]


@pytest.mark.slow
def test_both_towers_answer_on_arm_as_they_did_here(board: None, clip_bundle: Path) -> None:
    golden = golden_of(open_bundle(clip_bundle))
    assert golden is not None
    found = emulate.answers(clip_bundle, ["cortex-a76"])
    assert [(one.file, one.reason) for one in found] == [(ONNX, ""), ("models/fp32.text.onnx", "")]
    rows = arm_parity.rows("clip", golden, found)
    assert len(rows) == 2 and all(row["cosine_min"] > 0.9999 and row["n"] == len(EXAMPLES) for row in rows)
    report = emulate.verify(clip_bundle, ["cortex-a72"])
    assert report.ok, report
    names = {check.name for check in report.checks}
    assert {f"outputs {ONNX} on cortex-a72", "outputs models/fp32.text.onnx on cortex-a72"} < names


def test_a_tower_that_gives_nan_is_named(clip_bundle: Path) -> None:
    model = open_bundle(clip_bundle).manifest.models[0]
    told = {"isa": "aarch64-neon", "engine": "onnxruntime", "outputs": {
        ONNX: {"precision": "fp32", "values": [{"shape": [2], "values": [1.0, float("nan")]}]},
        "models/fp32.text.onnx": {"precision": "w8a8", "values": [{"shape": [2], "values": [1.0, 0.0]}]},
    }}  # fmt: skip
    image, text = emulate._answers(model, "cortex-a72", told)
    assert (image.file, image.outputs) == (ONNX, []) and "1 of 1 outputs hold NaN" in image.reason
    assert (text.file, text.precision, text.reason) == ("models/fp32.text.onnx", "w8a8", "")
