"""Bundles of task clip: their memory, and tolerances of both towers on older instruction sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.devices import emulate, older
from edgekit.devices.examples import from_json, to_json
from edgekit.devices.memory import model_rss_bytes
from edgekit.errors import InputError
from tests import clip_bundles
from tests.clip_bundles import EXAMPLES

ONNX = "models/fp32.image.onnx"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clip-devices")
    return clip_bundles.bundle(root / "clip.edge", {ONNX: clip_bundles.onnx_artifact(root)})


def test_examples_reach_another_process_as_they_are() -> None:
    picture, caption = from_json(to_json(EXAMPLES[1]))
    np.testing.assert_array_equal(picture, EXAMPLES[1][0])
    assert caption == EXAMPLES[1][1] and from_json(to_json("a text")) == "a text"


def test_memory_of_pictures_and_captions(bundle: Path) -> None:
    peak = model_rss_bytes(bundle, 1, EXAMPLES[:2], ONNX)
    assert peak is None or 40e6 < peak < 600e6


def test_each_tower_has_a_tolerance_on_older_processors(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    able = older.levels()
    if not able:
        pytest.skip("this processor has no older instruction set that edgekit knows")
    reason = older.held(able[0])
    if isinstance(reason, str):
        pytest.skip(reason)
    monkeypatch.setattr(older, "levels", lambda: able[:1])
    found = older.tolerances(bundle)
    assert [one.file for one in found] == [ONNX, "models/fp32.text.onnx"]
    stated = {one["file"]: one["max_abs"] for one in open_bundle(bundle).manifest.golden["tolerances"]
              if one["isa"] == "*"}  # fmt: skip
    for one in found:
        assert one.isa == f"x86_64-{able[0]}" and one.basis == "measured"
        assert 0 < one.max_abs <= stated[one.file]


def test_emulated_answers_are_of_texts(bundle: Path) -> None:
    with pytest.raises(InputError, match="verify --cpu"):
        emulate.answers(bundle, ["cortex-a72"])
