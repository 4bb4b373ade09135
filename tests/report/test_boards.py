"""Boards side by side: what each measured, what an emulator may not say, whose profile it is."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.bundle import open_bundle
from edgekit.bundle import write as write_bundle
from edgekit.cli.main import run
from edgekit.report import html, markdown, read, read_all
from edgekit.report.axes import spanning
from edgekit.report.board_rows import bound_rows
from edgekit.report.compare import compared
from edgekit.report.histogram import histogram
from edgekit.report.pareto import Version, frontier, versions
from edgekit.report.sustain import curves
from edgekit.report.words import sections
from tests.report.profiles import ODD, operators, profile, row, sustained


def forms(data: list[dict[str, Any]]) -> tuple[str, str]:
    return html(data), markdown(data)


def test_a_measured_board_is_shown_whole(small_bundle: Path) -> None:
    board = profile(small_bundle, sustain=sustained(10.0), ops=operators(4.0))
    for shown in forms([read(small_bundle, [{**board, "board_title": "Raspberry Pi 5"}])]):
        for words in (
            *("Raspberry Pi 5", "12.5 ms", "61.5 MB", "32 tokens", "over ssh", "2026-11-22 12:00 UTC", "matched"),
            "It answered there as recorded",
            *(
                "10 min 00 s: p50 of the first minute 10 ms, of the last 15 ms: 1.50×",
                "throttled in 2 of 4 readings",
                "81.5 °C",
            ),
            *("Not measured, since nothing shows it there: clock", "MatMulInteger", "Fallback 25.0 %"),
            *("Measured on Raspberry Pi 5 (Cortex-A76)", "Not measured there: energy"),
        ):
            assert words in shown, words
        assert "10.1.2.3" not in shown, "where somebody's board is reached is not for every reader"


def test_an_emulated_board_never_shows_a_time(small_bundle: Path) -> None:
    untimed = profile(small_bundle, basis="emulated")
    leaky = {**profile(small_bundle, ODD, [row(small_bundle, ODD, instructions_m=50.25)], sustain=sustained(ODD),
                       ops=operators(ODD)), "basis": "emulated"}  # fmt: skip
    for given_profile in (untimed, leaky):
        data = read(small_bundle, [given_profile])
        for shown in forms([data]):
            assert "emulated: no timing" in shown and "61.5 MB" in shown
            assert not re.search(r"7391|7\.39e", re.sub("[0-9a-f]{32,}", "", shown)), "a time of an emulator"
            assert "Emulated, not measured, as pi5 (Cortex-A76)" in shown
        assert not [key for one in data["boards"][-1]["rows"] for key in one if key.endswith("_ms")]
        assert "7391" not in re.sub("[0-9a-f]{32,}", "", json.dumps(data["boards"]))
    assert all("50.2 M" in shown for shown in forms([read(small_bundle, [leaky])]))


def test_a_browser_says_what_it_cannot_measure(small_bundle: Path) -> None:
    nothing = row(small_bundle, 8.25, rss_mb=None, cpu_ms=None, engine="onnxruntime-web")
    board = profile(small_bundle, 8.25, [nothing], target="browser", board="pixel7", environment={"os": "Android 14"})
    for shown in forms([read(small_bundle, [board])]):
        assert "in a browser" in shown and "8.25 ms" in shown and "onnxruntime-web" in shown
        assert "Not measured there: CPU time, peak memory, energy." in shown
        assert "| not measured |" in shown or ">not measured</td>" in shown


def test_profiles_of_other_bundles_say_so_and_count_for_nothing(small_bundle: Path) -> None:
    other = profile(small_bundle, ODD, bundle_sha256="0" * 64, bundle="/home/me/older.edge")
    data = read(small_bundle, [other])
    for shown in forms([data]):
        assert "of another bundle (older.edge)" in shown and "/home/me" not in shown
        assert "measured, another bundle" in shown
    assert not any(one.ms == ODD for one in versions(data))
    budget = {"bounds": [{"bound": "p95<=1ms", "limit": 1.0}]}
    assert bound_rows(budget, data["boards"]) == []
    unnamed = profile(small_bundle, bundle_sha256="")
    assert all("does not say which version" in shown for shown in forms([read(small_bundle, [unnamed])]))


def test_a_new_manifest_over_the_same_models_is_the_same_bundle(small_bundle: Path) -> None:
    files = {one.path: one.sha256 for one in open_bundle(small_bundle).manifest.files}
    signed = profile(small_bundle, bundle_sha256="2" * 64, files=files)
    changed = {**signed, "files": files | {"models/fp32.onnx": "3" * 64}}
    assert [one["of"] for one in read(small_bundle, [signed, changed])["boards"]] == ["same", "other"]


def test_each_profile_goes_to_its_own_bundle(small_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(small_bundle)
    second = tmp_path / "second.edge"
    files: dict[str, Path | bytes] = {one.path: small_bundle / one.path for one in bundle.manifest.files}
    write_bundle(second, dataclasses.replace(bundle.manifest, data={"name": "another"}), files)
    of_second, by_name = profile(second), profile(second, bundle_sha256="1" * 64)
    found = read_all([small_bundle, second], [of_second, by_name, profile(small_bundle)])
    assert [[board["of"] for board in data["boards"]] for data in found] == [["same"], ["same", "other"]]
    assert [data["name"] for data in found] == ["small (small.edge)", "small (second.edge)"]
    page, text = forms(found)
    assert "small (second.edge)" in page
    assert "2 bundles side by side" in page and text.startswith("# Side by side")
    assert page.count("<h1>") == 1


def test_bounds_of_time_and_memory_are_judged_on_each_board(small_bundle: Path) -> None:
    boards = read(
        small_bundle,
        [
            profile(small_bundle, 30.0),
            profile(small_bundle, 5.0, board="pi4"),
            profile(small_bundle, ODD, board="pixel7", basis="emulated"),
        ],
    )["boards"]
    bounds = [{"bound": "p95<=25ms", "limit": 25.0}, {"bound": "rss<=60MB", "limit": 6e7}, {"bound": "acc>=-1pp"}]
    rows = bound_rows({"bounds": bounds}, boards)
    verdicts = [(one["bound"], one["board"], one["verdict"]) for one in rows]
    assert verdicts == [
        *(("p95<=25ms", board, verdict) for board, verdict in
          (("pi5", "missed"), ("pi4", "met"), ("pixel7", "not judged"))),
        *(("rss<=60MB", board, "missed") for board in ("pi5", "pi4", "pixel7")),
    ]  # fmt: skip
    assert "emulated: no timing" in rows[2]["found"]


def test_a_busy_machine_is_told(small_bundle: Path) -> None:
    for load, told in ((7.5, True), (0.5, False)):
        board = profile(small_bundle, environment={"cpu": "N100", "cpus": 4, "load_average": [load, 1.0, 1.0]})
        for shown in forms([read(small_bundle, [board])]):
            assert ("The machine was busy (load 7.5 on 4 processors)" in shown) == told


def test_two_boards_of_one_name_are_told_apart(small_bundle: Path) -> None:
    titles = [board["title"] for board in read(small_bundle, [profile(small_bundle)] * 2)["boards"]]
    assert titles == ["pi5", "pi5 (2)"]


def test_hostile_profiles_are_text(small_bundle: Path) -> None:
    nasty = '<script>alert("x")</script> | `'
    failed = [{"file": nasty, "engine": nasty, "cause": nasty}]
    checks = {"ok": False, "checks": [{"name": nasty, "ok": False, "detail": nasty}]}
    board = profile(small_bundle, board=nasty, environment={"cpu": nasty, "os": nasty}, failed=failed, verified=checks)
    for shown in forms([read(small_bundle, [board])]):
        assert "<script" not in shown and "FAILED" in shown and "It did NOT answer there as recorded." in shown
    rows = [line for line in markdown([read(small_bundle, [board])]).splitlines() if line.startswith("| &lt;script")]
    assert rows and all(line.endswith(" |") for line in rows)


def test_commands_of_the_page(small_bundle: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"^\$ edgekit (report .+)$", (root / "docs/report.md").read_text(), flags=re.MULTILINE)
    assert len(commands) >= 3
    for name in ("sentiment", "other"):
        shutil.copytree(small_bundle, tmp_path / f"build/{name}.edge")
    for name in ("here", "pi5", "pixel7"):
        (tmp_path / f"build/sentiment.{name}.profile.json").write_text(json.dumps(profile(small_bundle, board=name)))
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert run(shlex.split(command)) == 0, command
    assert (tmp_path / "build/sentiment.report.html").is_file() and (tmp_path / "build/boards.html").is_file()


def test_headings_of_the_page_are_those_of_the_report(small_bundle: Path, root: Path) -> None:
    page = (root / "docs/report.md").read_text()
    for _, heading in sections(read(small_bundle, [profile(small_bundle)])):
        assert f"| {heading} |" in page, heading


def test_a_stretch_of_throttling_is_one_band() -> None:
    [latency, heat] = curves(sustained(10.0))
    assert len(latency.bands) == 1 and latency.bands == heat.bands
    assert latency.bands[0][0] < latency.bands[0][1] <= 452
    assert heat.path.count("M") == 2, "a gap where nothing was read"


def test_the_command_line_takes_profiles(
    small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "one.edge"
    shutil.copytree(small_bundle, bundle)
    (tmp_path / "pi5.json").write_text(json.dumps(profile(bundle)))
    arguments = ["report", str(bundle), "--profile", str(tmp_path / "pi5.json")]
    assert run([*arguments, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [board["title"] for board in found["bundles"][0]["boards"]] == ["Raspberry Pi 5"]
    assert run(arguments) == 0
    assert "Raspberry Pi 5" in (tmp_path / "one.report.html").read_text()
    (tmp_path / "pi5.json").write_text('{"schema_version": 1}')
    assert run([*arguments, "--overwrite"]) == 2
    assert "pi5.json" in capsys.readouterr().err


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200))
def test_every_sample_is_in_the_histogram(samples: list[float]) -> None:
    found = histogram(samples)
    assert sum(found["counts"]) + found["beyond"] == len(samples)
    assert found["low_ms"] <= min(samples) < found["high_ms"]
    assert found["beyond"] <= len(samples) * 0.01 + 1


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20), st.booleans())
def test_axes_hold_their_values_and_ticks(values: list[float], log: bool) -> None:
    axis = spanning(values, 10, 110, log)
    assert all(10 <= axis.at(value) <= 110 for value in values)
    ticks = axis.ticks(6, str)
    assert len(ticks) <= 8 and all(9.9 <= tick.at <= 110.1 for tick in ticks)
    assert len({tick.text for tick in ticks}) == len(ticks)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1)), min_size=1, max_size=20))
def test_none_beats_those_on_the_frontier(points: list[tuple[float, float]]) -> None:
    found = [Version(str(i), "s", "here", value, None, None, ms) for i, (ms, value) in enumerate(points)]
    best = frontier(found)
    for one in found:
        beaten = [
            o for o in found if o.ms <= one.ms and o.value >= one.value and (o.ms, o.value) != (one.ms, one.value)
        ]
        assert any((o.ms, o.value) == (one.ms, one.value) for o in best) == (not beaten)


def test_bundles_of_one_metric_and_data_share_a_plot(small_bundle: Path, clip_bundle: Path) -> None:
    boards = [profile(small_bundle, 30.0), profile(small_bundle, 5.0, board="pi4"), profile(clip_bundle, 9.0)]
    both = compared(read_all([small_bundle, small_bundle], boards))
    assert both is not None
    assert [mark.version.ms for mark in both.marks] == [30.0, 5.0], "packed files, no steps"
    assert both.best == [2]
    assert compared(read_all([small_bundle, clip_bundle], boards)) is None, "accuracy and recall are not one axis"
