"""Rows take turns where memory holds their processes; what fails is told and the others go on."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import open_bundle
from edgekit.bundle import write as write_bundle
from edgekit.devices import select, turns
from edgekit.devices.child import Child
from edgekit.errors import EngineError, InputError
from tests.runtimes import tiny
from tests.runtimes.telemetry_boards import write


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bundle(tmp_path_factory.mktemp("turns") / "tiny.edge")


def jobs(bundle: Path, *threads: int) -> list[dict[str, Any]]:
    return [{**job, "warmup": 1} for job in select.jobs(open_bundle(bundle), threads, [8])]


def test_all_take_turns_in_an_order_that_rotates(bundle: Path) -> None:
    seen: list[tuple[int, str]] = []
    taken, broken = turns.in_turns(jobs(bundle, 1, 2), 7, 0.0, rounds=3, told=lambda *one: seen.append(one))
    assert broken == {}
    assert [what for _, what in seen] == ["loaded"] * 2 + [f"round {n} of 3" for n in (1, 1, 2, 2, 3, 3)]
    assert [place for place, _ in seen[2:]] == [0, 1, 1, 0, 0, 1]
    for one in taken:
        assert one is not None and one.group == 0
        assert sum(part["runs"] for part in one.slices) == 7 == sum(len(part["parts_ms"]) for part in one.slices)
        assert one.end["rss_mb"] >= one.end["rss_steady_mb"] > 10
        assert one.ready["warmup"] >= 20 and one.energy_mj == [None] * 3


def test_seconds_are_reached_and_bounded(bundle: Path) -> None:
    (only,), _ = turns.in_turns(jobs(bundle, 1), 3, 0.2)
    assert only is not None
    assert sum(part["wall_ms"] for part in only.slices) >= 200
    assert sum(part["runs"] for part in only.slices) > 3
    with Child(jobs(bundle, 1)[0]) as child:
        found = child.slice(1, 60.0, most=50, keep=10)
    assert found["runs"] == 50 and 5 <= len(found["parts_ms"]) <= 10


def test_little_memory_means_one_after_the_other(bundle: Path, tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal: 100000 kB\nMemAvailable: 80000 kB\n"})
    taken, _ = turns.in_turns(jobs(bundle, 1, 2, 3), 2, 0.0, root=tmp_path)
    assert [one.group for one in taken if one] == [0, 1, 2]


def test_a_process_that_ends_early(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, alive = Child.slice, Counter[int]()

    def cut(child: Child, *given: Any, **named: Any) -> dict[str, Any]:
        alive[id(child)] += 1
        if len(alive) == 1 and alive[id(child)] == 1:
            os.kill(child._process.pid, 9)
        return real(child, *given, **named)

    monkeypatch.setattr(Child, "slice", cut)
    first, second = jobs(bundle, 1), jobs(bundle, 1)
    second[0]["engine"] = "auto"  # another choice, so that it does not fail with the first
    taken, broken = turns.in_turns([*first, *second], 4, 0.0, rounds=2)
    assert taken[0] is None and taken[1] is not None
    ((choice, cause),) = broken.items()
    assert choice.engine == "onnxruntime" and "signal 9" in cause


def test_what_was_asked_for_wrongly_ends_it_all(bundle: Path) -> None:
    given = [{**job, "file": "models/none.onnx"} for job in jobs(bundle, 1, 2)]
    with pytest.raises(InputError, match=r"none\.onnx"):
        turns.in_turns(given, 2, 0.0)


def test_where_nothing_can_be_loaded(bundle: Path, tmp_path: Path) -> None:
    opened, broken = open_bundle(bundle), tmp_path / "broken.edge"
    files: dict[str, Path | bytes] = {one.path: bundle / one.path for one in opened.manifest.files}
    write_bundle(broken, opened.manifest, files | {tiny.ONNX: b"not a model"})
    given = [{**job, "bundle": str(broken)} for job in jobs(bundle, 1, 2)]
    taken, causes = turns.in_turns(given, 2, 0.0)
    assert taken == [None, None] and [choice.engine for choice in causes] == ["onnxruntime"]


def test_what_a_process_says_last(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = jobs(bundle, 1)
    with pytest.raises(EngineError, match=r"ended early; found KeyError"):
        Child({key: value for key, value in job.items() if key != "words"})
    child = Child(job)
    child.close()
    assert child._process.returncode == -9
