from __future__ import annotations

import io

from edgekit.cli.output import to_json
from edgekit.cli.progress import Lines, Shown, clock
from edgekit.progress import Silent, track


def test_a_log_gets_percent_and_eta() -> None:
    out = io.StringIO()
    for _ in track(Lines(out, every=0.0), "train", range(4), 4):
        pass
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("train: 25 % (1 of 4), ETA 0:0")
    assert lines[-1].startswith("train: done in 0:0")


def test_short_steps_leave_a_log_alone() -> None:
    out = io.StringIO()
    for _ in track(Lines(out), "train", range(4), 4):
        pass
    assert out.getvalue() == ""


def test_only_the_first_process_talks(monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with Shown() as progress:
        assert isinstance(progress, Silent)


def test_clock() -> None:
    assert (clock(5), clock(65), clock(7209)) == ("0:05", "1:05", "2:00:09")


def test_json_never_holds_nan() -> None:
    import numpy as np

    assert '"a": null' in to_json({"a": float("nan"), "b": np.float32(1)})
