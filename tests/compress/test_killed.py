"""kill -9 in each stage, then again: the same bundle as a run that nobody killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgekit.compress import CompressResult
from edgekit.runtimes.verify import verify
from tests.compress.test_compress import fingerprint

# what each stage says when it begins, and how long after that the kill comes, in seconds
MOMENTS = [
    ("teach: fine-tune", 0.0),
    ("teach: epoch 1", 0.2),
    ("teach: measuring", 0.1),
    ("vocabulary: cut", 0.02),
    ("distill: train", 0.3),
    ("prune: importance", 0.3),
    ("export: torch", 0.1),
    ("quantize: w8a8", 0.3),
    ("quantize: kept", 0.2),
]


def _run(recipe: Path, out: Path, cache: Path) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "edgekit", "compress", str(recipe), "-o", str(out), "--cache-dir", str(cache)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        start_new_session=True,
    )


def _kill_at(process: subprocess.Popen[str], words: str, delay: float) -> bool:
    """Whether ``words`` came and the process was killed after them; False when it ended first."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(words):
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
    process.wait()
    return False


@pytest.mark.slow
def test_a_run_killed_in_every_stage_ends_with_the_same_bundle(
    small_job: Path, finished: tuple[CompressResult, Path], tmp_path: Path
) -> None:
    out, cache = tmp_path / "killed.edge", tmp_path / "cache"
    for words, delay in MOMENTS:
        process = _run(small_job, out, cache)
        timer = threading.Timer(240, process.kill)
        timer.start()
        killed = _kill_at(process, words, delay)
        timer.cancel()
        assert killed, f"the run ended before it said {words!r}"
        assert not out.exists()
    process = _run(small_job, out, cache)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert told.count("taken from the cache") >= 5, told
    assert verify(out).ok
    assert fingerprint(out) == fingerprint(finished[0].bundle)
    assert not list((cache / "stages").glob("*.partial-*"))
    assert not list(tmp_path.glob(".killed*"))
