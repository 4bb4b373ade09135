"""The soak, shortened: faults at random, no crash, no answer from a wrong state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("where", ["in process", "isolated"])
def test_no_crash_and_no_wrong_answer(where: str, engines: Path, root: Path) -> None:
    command = [sys.executable, str(root / "benchmarks/soak.py"), str(engines), "--engines", "onnxruntime,openvino"]
    command += ["--minutes", "0.4", "--every", "0.3", "--pressure-mb", "50", "--seed", "5"]
    command += ["--deadline-ms", "200", "--calibrate", "1"]
    command += ["--isolate"] if where == "isolated" else []
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == 0 and found["crashes"] == []
    assert found["answers"] > 50 and sum(found["faults"].values()) >= 2
    assert found["state"] == "serving", "the last fault is over before the end"
    assert found["answers"] + sum(found["missed_outside"].values()) + found["missed_inside"] >= found["requests"]
