"""The code of docs/realtime.md runs, and its numbers are the defaults."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from edgekit.runtimes import GovernorSettings, Ladder, Stream
from edgekit.runtimes.realtime.records import REASONS
from tests import clip_bundles
from tests.conftest import ROOT
from tests.runtimes import tiny

PAGE = (ROOT / "docs/realtime.md").read_text()


def test_its_code_runs(
    small_bundle: Path,
    dual_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(small_bundle, tmp_path / "sentiment.edge")
    shutil.copytree(dual_bundle, tmp_path / "photo.edge")
    tiny.ladder(tmp_path / "ladder.edge")
    first = clip_bundles.onnx_artifact(tmp_path / "towers")
    small = clip_bundles.narrower(tmp_path / "towers/torch", tmp_path / "small", 0.5)
    clip_bundles.ladder(tmp_path / "towers.edge", first, {"50": small})
    Image.fromarray(clip_bundles.pictures()[0]).save(tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 8
    for block in blocks:
        exec(compile(block, "docs/realtime.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed[:3]] == [["0", "True"], ["1", "True"], ["2", "False"]]


def test_its_numbers_are_the_defaults() -> None:
    settings = GovernorSettings()
    for name in ("settle_s", "recover_s", "critical_c"):
        assert f"`{name}` = {getattr(settings, name):g} " in PAGE
    ladder = inspect.signature(Ladder).parameters
    assert f"{ladder['down_after'].default} of the last {ladder['window'].default} requests" in PAGE
    assert f"`up_after_s` = {ladder['up_after_s'].default:g} s" in PAGE
    assert f"{ladder['headroom'].default} of the deadline" in PAGE
    shown = re.search(r"^`Stream\(model, (.*)\)`$", PAGE, re.MULTILINE)
    assert shown is not None
    defaults = {name: one.default for name, one in inspect.signature(Stream).parameters.items() if name != "clock"}
    del defaults["model"]
    assert eval(f"dict({shown[1]})") == defaults


def test_every_reason_is_named() -> None:
    assert all(f"`{reason}`" in PAGE for reason in REASONS)
