"""A run whose engines' files are timed on a board, and one whose times are estimated from a profile of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import open_bundle
from edgekit.cli.main import run
from edgekit.devices import profile
from edgekit.devices.targets import open_target, stored
from edgekit.devices.targets.timing import Board
from edgekit.errors import InputError
from edgekit.runtimes import artifact
from tests.fake_board import FakeBoard

BUDGET = "acc>=-60pp,p95<=60000ms,rss<=9000MB"


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    return FakeBoard(tmp_path, monkeypatch)


@pytest.fixture
def folders(small_bundle: Path, tmp_path: Path) -> dict[str, Path]:
    """The bundle's model as the pipeline holds it."""
    bundle = open_bundle(small_bundle)
    folder = tmp_path / "fp32"
    folder.mkdir()
    for name, file in {"model.onnx": "models/fp32.onnx", "tokenizer.json": "tokenizer.json"}.items():
        (folder / name).symlink_to(bundle.file(file))
    artifact.write(folder, bundle.manifest.task, "onnxruntime", "fp32")
    return {"fp32": folder}


def compressed(recipe: Path, cache: Path, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    """What ``edgekit compress`` says in JSON."""
    flags = ["-o", str(out), "--cache-dir", str(cache), "--budget", BUDGET, "--format", "json", *more]
    assert run(["compress", str(recipe), *flags]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
def test_times_of_the_board_decide(
    board: FakeBoard, small_job: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ["--device", board.target, "--wheels", str(board.wheels)]
    found = compressed(small_job, cache, tmp_path / "a.edge", capsys, *there)
    budget = {row["bound"].split("<")[0].split(">")[0].strip(): row for row in found["budget"]}
    assert "device" not in budget["acc"]
    row = open_bundle(tmp_path / "a.edge").manifest.profiles[0]
    for quantity in ("p95", "rss"):
        assert (budget[quantity]["device"], budget[quantity]["basis"]) == (board.target, "measured")
    assert budget["p95"]["found"] == row["device"]["p95_ms"] != row["p95_ms"]
    quantized = next(stage for stage in found["stages"] if stage["stage"] == "quantize")
    assert f"(measured on {board.target})" in quantized["reason"]
    seen = quantized["details"]["device"]
    assert quantized["details"]["times_faster"] == seen["before_p50_ms"] / seen["p50_ms"]
    assert all("device" not in stage["details"] for stage in found["stages"] if stage["stage"] in ("teach", "distill"))


@pytest.mark.slow
def test_a_kept_profile_stands_for_its_board(
    board: FakeBoard,
    small_job: Path,
    small_bundle: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = profile(small_bundle, lengths=[16], runs=20, warmup=2).to_dict()
    there = copy.deepcopy(here)
    for row in there["rows"]:
        row["p50_ms"] *= 5
    stored.keep("slow-board", there, here)
    found = compressed(small_job, cache, tmp_path / "a.edge", capsys, "--device", "slow-board")
    latency = next(row for row in found["budget"] if row["bound"].startswith("p95"))
    assert (latency["device"], latency["basis"]) == ("slow-board", "estimated")
    row = open_bundle(tmp_path / "a.edge").manifest.profiles[0]
    assert 2 < row["device"]["p50_ms"] / row["p50_ms"] < 12, "five times, on a machine that others use too"
    assert row["device"]["rss_bytes"] == row["rss_bytes"]


@pytest.mark.slow
def test_a_board_times_folders(board: FakeBoard, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with open_target(board.target) as target:
        device = Board(target, ["onnxruntime", "tflite-runtime"], wheels=board.wheels)
        found = device.time(folders, ["a film", "no"], 1)["fp32"]
        assert found.samples_ms.shape == (8,) and np.all(found.samples_ms > 0)
        assert found.rss_bytes is not None and found.rss_bytes > 30e6
        monkeypatch.setenv("EDGEKIT_EMULATED", "a simulator")
        with pytest.raises(InputError, match="emulated by a simulator: no timing"):
            device.time(folders, ["no"], 1)


def test_a_board_that_hangs_ends_the_run(
    board: FakeBoard, small_job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board.answers("sleep 60;")
    out = tmp_path / "a.edge"
    given = ["--device", board.target, "--silence", "1", "--cache-dir", str(tmp_path / "cache"), "-o", str(out)]
    assert run(["compress", str(small_job), *given]) == 2
    assert "looking at the board; found no word and no progress for 1 s" in capsys.readouterr().err
    assert not out.exists()


def test_profiles_that_can_stand_for_nothing(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    row = {"file": "a", "engine": "litert", "precision": "w8a8", "threads": 1, "batch": 1, "length": 16, "p50_ms": 2.0}
    here = {"basis": "measured", "rows": [row]}
    with pytest.raises(InputError, match="no kept profile"):
        stored.Estimated("pi5")
    with pytest.raises(InputError, match="ssh://user@host"):
        stored.Estimated("../pi5")
    with pytest.raises(InputError, match="emulated: no timing"):
        stored.keep("pi5", {**here, "basis": "emulated"}, here)
    with pytest.raises(InputError, match="measured on both"):
        stored.keep("pi5", {**here, "rows": [{**row, "length": 32}]}, here)
    stored.keep("pi5", {**here, "rows": [{**row, "p50_ms": 6.0}]}, here)
    assert stored.names() == ["pi5"]
    with pytest.raises(InputError, match="engine onnxruntime; found never measured there; expected litert"):
        stored.Estimated("pi5").time(folders, ["no"], 1)
    stored.place("pi5").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        stored.Estimated("pi5")
