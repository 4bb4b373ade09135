"""Instructions of emulated processors, counted: what INT8 saves with dot products and without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.cli.main import run
from edgekit.devices import instructions
from edgekit.errors import MissingDependencyError

pytestmark = pytest.mark.slow


def test_int8_takes_fewer_instructions_where_there_are_dot_products(
    arm_cache: Path, pi_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(arm_cache))
    try:
        instructions.emulator()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert run(["profile", str(pi_bundle), "--cpu", "cortex-a76", "--format", "json"]) == 0
    pi5 = json.loads(capsys.readouterr().out)
    assert (pi5["basis"], pi5["board"], pi5["failed"], pi5["verified"]["ok"]) == ("emulated", "pi5", [], True)
    assert not any(row[key] for row in pi5["rows"] for key in row if key.endswith("_ms"))
    pi4 = [one.to_dict() for one in instructions.count(pi_bundle, ["cortex-a72"])]
    taken = {}
    for cpu, rows in (("a72", pi4), ("a76", pi5["rows"])):
        for row in rows:
            taken[cpu, row["file"]] = row["instructions_m"]
            assert bool(row["dot_products_m"]) is (cpu == "a76" and row["precision"] == "w8a8"), row
    assert len(taken) == 8
    saved = {
        (cpu, kind): taken[cpu, f"models/fp32.{kind}"] / taken[cpu, f"models/w8a8.{kind}"]
        for cpu in ("a72", "a76")
        for kind in ("onnx", "tflite")
    }
    assert max(saved["a76", "onnx"], saved["a76", "tflite"]) >= 2.2, saved
    assert saved["a76", "onnx"] > saved["a72", "onnx"], saved
