"""kill -9 in each stage, then again: the same bundle as a run that nobody killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO

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


# Ten runs, each of a process of its own: forked from a server that has imported what takes longer than the small job.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["edgekit.cli.main", "edgekit.compress.stages", "edgekit.export.litert", "onnxruntime"])


def _edgekit(arguments: list[str], stderr: Connection) -> None:
    """The command, in a session of its own."""
    os.setsid()
    os.dup2(stderr.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from edgekit.cli.main import run

    sys.exit(run(arguments))


@dataclass(frozen=True)
class Run:
    process: BaseProcess
    stderr: TextIO


def _run(recipe: Path, out: Path, cache: Path) -> Run:
    reading, writing = SERVER.Pipe(duplex=False)
    arguments = ["compress", str(recipe), "-o", str(out), "--cache-dir", str(cache)]
    process = SERVER.Process(target=_edgekit, args=(arguments, writing))
    process.start()
    writing.close()
    return Run(process, os.fdopen(os.dup(reading.fileno())))


def _kill_at(run: Run, words: str, delay: float) -> bool:
    """Whether ``words`` came and the process was killed after them; False when it ended first."""
    with run.stderr:
        for line in run.stderr:
            if line.startswith(words):
                time.sleep(delay)
                assert run.process.pid is not None
                os.killpg(run.process.pid, signal.SIGKILL)
                run.process.join()
                return True
    run.process.join()
    return False


@pytest.mark.slow
def test_a_run_killed_in_every_stage_ends_with_the_same_bundle(
    small_job: Path, finished: tuple[CompressResult, Path], tmp_path: Path
) -> None:
    out, cache = tmp_path / "killed.edge", tmp_path / "cache"
    for words, delay in MOMENTS:
        run = _run(small_job, out, cache)
        timer = threading.Timer(240, run.process.kill)
        timer.start()
        killed = _kill_at(run, words, delay)
        timer.cancel()
        assert killed, f"the run ended before it said {words!r}"
        assert not out.exists()
    run = _run(small_job, out, cache)
    with run.stderr:
        told = run.stderr.read()
    run.process.join(240)
    assert run.process.exitcode == 0, told
    assert told.count("taken from the cache") >= 5, told
    assert verify(out).ok
    assert fingerprint(out) == fingerprint(finished[0].bundle)
    assert not list((cache / "stages").glob("*.partial-*"))
    assert not list(tmp_path.glob(".killed*"))
