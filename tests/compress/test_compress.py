"""The whole pipeline on a small real job: what it leaves, what it rolls back, what it remembers."""

from __future__ import annotations

import hashlib
import runpy
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import open_bundle
from edgekit.compress import CompressResult, compress, plan
from edgekit.errors import InputError
from edgekit.progress import Silent
from edgekit.recipe import load_recipe
from edgekit.runtimes.load import load
from edgekit.runtimes.verify import verify

STAGES = ["teach", "vocabulary", "distill", "prune", "export", "quantize", "pack"]


class Lines(Silent):
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def fingerprint(bundle: Path) -> dict[str, str]:
    """sha256 of all that must be the same in two runs; the manifest holds timings, the golden vectors do not."""
    return {
        p.relative_to(bundle).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(bundle.rglob("*"))
        if p.is_file() and p.name != "manifest.json"
    }


@pytest.fixture(scope="module")
def result(finished: tuple[CompressResult, Path]) -> CompressResult:
    return finished[0]


@pytest.mark.slow
def test_every_stage_has_its_row_with_an_interval_a_size_and_a_latency(result: CompressResult) -> None:
    assert [stage.stage for stage in result.stages] == STAGES
    for stage in result.stages:
        assert stage.metric == "accuracy" and stage.low <= stage.value <= stage.high  # type: ignore[operator]
        assert stage.size_bytes > 0 and stage.p50_ms > 0 and stage.agreement is not None  # type: ignore[operator]
    assert result.stages[0].value > 0.9  # type: ignore[operator]


@pytest.mark.slow
def test_the_bundle_answers_like_its_data_and_proves_itself(result: CompressResult) -> None:
    answers = load(result.bundle).classify(["a charming and clever film", "a dull, lifeless plot"])
    assert answers.labels == ["good", "bad"]
    assert verify(result.bundle).ok
    assert result.report.is_file() and "quantize" in result.report.read_text("utf-8")
    manifest = open_bundle(result.bundle).manifest
    assert manifest.models[0].precision == "w8a8"
    assert load_recipe(result.bundle / "recipe.yaml").name == "small"


@pytest.mark.slow
def test_each_stage_really_shrinks_the_model(result: CompressResult) -> None:
    size = {stage.stage: stage.size_bytes for stage in result.stages}
    assert size["teach"] > 3 * size["vocabulary"] > 3 * size["distill"] > 3 * size["prune"]
    assert size["prune"] > 3 * size["quantize"]


@pytest.mark.slow
def test_a_second_run_takes_all_from_the_cache_and_gives_the_same_bytes(
    result: CompressResult, small_job: Path, cache: Path, tmp_path: Path
) -> None:
    listener = Lines()
    again = compress(load_recipe(small_job), tmp_path / "again.edge", progress=listener, cache_dir=cache)
    assert fingerprint(again.bundle) == fingerprint(result.bundle)
    assert sum("taken from the cache" in line for line in listener.lines) == 6
    rows = plan(load_recipe(small_job), cache)
    assert [row["cached"] for row in rows] == [True] * 6
    assert plan(load_recipe(small_job, {"stages.quantize.candidates": "static"}), cache)[-1]["cached"] is False


@pytest.mark.slow
def test_a_fresh_cache_and_the_same_seed_give_the_same_weights(
    result: CompressResult, small_job: Path, tmp_path: Path
) -> None:
    again = compress(load_recipe(small_job), tmp_path / "again.edge", cache_dir=tmp_path / "cache")
    assert fingerprint(again.bundle) == fingerprint(result.bundle)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "overrides", "word"),
    [
        ("prune", {"stages.prune.ffn": 0.0, "stages.prune.heads": 0.0, "stages.prune.gate.min_gain": 1.5}, "not pay"),
        ("quantize", {"stages.quantize.gate.min_gain": 1000}, "not pay"),
        ("quantize", {"stages.quantize.gate.min_speed": 1000}, "of fp32's speed, asked for 1000.00"),
    ],
)
def test_a_stage_that_does_not_pay_is_rolled_back_and_the_bundle_still_made(
    stage: str,
    overrides: dict[str, Any],
    word: str,
    result: CompressResult,
    small_job: Path,
    cache: Path,
    tmp_path: Path,
) -> None:
    found = compress(load_recipe(small_job, overrides), tmp_path / "x.edge", cache_dir=cache)
    record = next(r for r in found.stages if r.stage == stage)
    assert not record.kept and word in record.reason
    assert verify(found.bundle).ok
    if stage == "quantize":
        assert open_bundle(found.bundle).manifest.models[0].precision == "fp32"


@pytest.mark.slow
def test_a_missed_budget_is_said_and_measured(
    result: CompressResult, small_job: Path, cache: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(small_job, {"budget": "size<=1KB, p95<=10s, rss<=4GB, acc>=-100pp"})
    found = compress(recipe, tmp_path / "x.edge", cache_dir=cache)
    assert not found.budget_met
    assert [row["met"] for row in found.budget] == [False, True, True, True]
    assert all(row["basis"] == "measured" for row in found.budget)


@pytest.mark.slow
def test_the_example_runs(
    result: CompressResult, small_job: Path, cache: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(cache))
    example = runpy.run_path(str(root / "examples" / "compress_from_python.py"))
    assert example["main"](str(small_job), str(tmp_path / "x.edge")) == 0
    assert fingerprint(tmp_path / "x.edge") == fingerprint(result.bundle)


def test_an_existing_output_is_left_alone_before_any_work(small_job: Path, tmp_path: Path) -> None:
    (tmp_path / "x.edge").mkdir()
    with pytest.raises(InputError, match="--overwrite"):
        compress(load_recipe(small_job), tmp_path / "x.edge", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
