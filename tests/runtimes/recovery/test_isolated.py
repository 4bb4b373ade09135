"""Engines in a worker: one that crashes, hangs, leaks or talks nonsense costs one answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import NoAnswer
from edgekit.runtimes import Guarded
from edgekit.runtimes.recovery.faults import Fault
from edgekit.runtimes.recovery.isolated import Isolated
from tests.runtimes import tiny
from tests.runtimes.recovery.conftest import Make, until
from tests.runtimes.recovery.faulty import ORDER

HOOK = "tests.runtimes.recovery.faulty:by_order"


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a worker takes its next fault from."""
    monkeypatch.setenv(ORDER, str(tmp_path / "order"))
    return tmp_path / "order"


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def serving(model: Guarded) -> None:
    until(lambda: model.health()["state"] == "serving", 60)


def test_a_segmentation_fault_costs_one_answer(bundle: Path, make: Make, order: Path, right: np.ndarray) -> None:
    model = make(bundle, isolate=True, patience_ms=0, wrap_engine=HOOK)
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)
    pid = model.health()["worker_pid"]
    assert pid != os.getpid() and model.health()["worker_rss_bytes"] > 1 << 20
    order.write_text("crash")
    with pytest.raises(NoAnswer, match="signal 11"):
        model.run(tiny.TEXTS[0])
    serving(model)
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)
    health = model.health()
    assert (health["no_answers"], health["faults"]) == (1, {"died": 1})
    assert health["worker_pid"] != pid and not alive(pid)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        ("exit", "died", "exit code 3"),
        ("throw", "throw", "lost its mind"),
        ("nan", "not finite", "NaN"),
        ("hang", "hang", "no answer in"),
        ("dtype", "throw", "float64"),
    ],
)
def test_with_patience_a_fault_costs_time_alone(
    fault: str, kind: str, told: str, bundle: Path, make: Make, order: Path, right: np.ndarray
) -> None:
    model = make(bundle, isolate=True, wrap_engine=HOOK, deadline_ms=1000, patience_ms=60_000)
    pid = model.health()["worker_pid"]
    order.write_text(fault)
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)
    assert model.health()["faults"] == {kind: 1}
    assert told in model.events[1].reason
    assert not alive(pid), "a worker that failed is killed, whatever it does"


@pytest.mark.slow
@pytest.mark.parametrize(("leak", "kind"), [("leak", "throw"), ("shared leak", "memory")])
def test_memory_is_bounded(leak: str, kind: str, bundle: Path, make: Make, order: Path, right: np.ndarray) -> None:
    """Private memory by the kernel's limit, all other by the look at what is resident."""
    model = make(bundle, isolate=True, memory_mb=180, wrap_engine=HOOK, deadline_ms=1000, patience_ms=60_000)
    order.write_text(leak)
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)
    until(lambda: kind in model.health()["faults"], 60)
    serving(model)
    assert np.allclose(model.logits(tiny.TEXTS), right, atol=1e-5)
    assert model.health()["worker_rss_bytes"] < 180e6


CHILD = """
import sys, time
from edgekit.runtimes import Guarded
model = Guarded(sys.argv[1], threads=1, isolate=True, wrap_engine=sys.argv[2], deadline_ms=1e6)
print(model.health()["worker_pid"], flush=True)
sys.stdin.readline()
model.run("no")
"""


def test_a_hanging_worker_goes_with_its_parent(bundle: Path, order: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(bundle), HOOK]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None
    pid = int(child.stdout.readline())
    order.write_text("hang")
    child.stdin.write("\n")  # only now it asks
    child.stdin.flush()
    try:
        until(lambda: not order.exists(), 60)
        assert alive(pid)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdin.close()
        child.stdout.close()
    until(lambda: not alive(pid))


FAKE = """
import json, sys
import numpy as np
from edgekit.runtimes.recovery import wire
pipe = wire.Pipe(0, 1)
about = {"version": "0", "inputs": ["ids", "mask"], "output_width": 3, "batching": True, "length_step": 1}
frame = pipe.receive()
pipe.send(wire.TEXT, 0, frame.number, [json.dumps(about).encode()])
answer = lambda value: wire.pack([np.full((1, 3), value, np.float32)])
while True:
    frame = pipe.receive()
    %s
"""
IDS = np.ones((1, 4), np.int64)


def fake(does: str) -> Isolated:
    """A worker that answers as ``does`` says."""
    return Isolated(60.0, command=(sys.executable, "-c", FAKE % does))


def test_an_answer_to_an_earlier_request_is_never_taken() -> None:
    place = fake("pipe.send(wire.ARRAYS, 0, frame.number - 1, answer(666)); pipe.send(4, 0, frame.number, answer(7))")
    try:
        engine = place.create("fake", Path("x"), 1, ("ids", "mask"), "", "fp32")
        for _ in range(3):
            assert engine.run(IDS, IDS).tolist() == [[7, 7, 7]]
        assert place.late == 3
    finally:
        place.close()


@pytest.mark.parametrize(
    "does",
    [
        "pipe.send(wire.ARRAYS, 0, frame.number + 1, answer(7))",
        "pipe.send(wire.TEXT, 0, frame.number, [b'{}'])",
        "pipe.send(wire.ARRAYS, 0, frame.number, [b'\\xff' * 40])",
        "import os; os.write(1, b'a library that prints to stdout')",
    ],
    ids=["of a request to come", "of another kind", "malformed", "no frame"],
)
def test_nonsense_is_refused(does: str) -> None:
    place = fake(does)
    try:
        engine = place.create("fake", Path("x"), 1, ("ids", "mask"), "", "fp32")
        with pytest.raises(Fault) as caught:
            engine.run(IDS, IDS)
        assert caught.value.kind == "wire"
    finally:
        place.close()
