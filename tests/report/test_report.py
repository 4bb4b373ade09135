from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import StageRecord, open_bundle
from edgekit.bundle import write as write_bundle
from edgekit.report import figures as f
from edgekit.report import html, markdown, read, write
from edgekit.report.charts import sensitivity_charts

NASTY = '<script>alert("x")</script> & | "quoted"'


SENSITIVITY = [{"matrix": "layers.0.down", "error": 0.02}, {"matrix": "layers.1.down", "error": 0.01}]


def stages() -> list[StageRecord]:
    common: dict[str, Any] = {"metric": "accuracy", "n": 3000, "low": 0.9, "high": 0.93}
    return [
        StageRecord("teach", True, "the first", value=0.92, size_bytes=91_000_000, p50_ms=8.1, **common),
        StageRecord(
            "distill",
            True,
            "accuracy -0.40 pp; 1.9x faster",
            value=0.915,
            gate_drop=0.004,
            gate_drop_low=-0.001,
            gate_drop_high=0.009,
            agreement=0.97,
            parity_cosine=0.98,
            parity_max_abs=1.25,
            size_bytes=70_000_000,
            p50_ms=4.2,
            before_p50_ms=8.0,
            seconds=312.0,
            details={"teacher_p50_ms": 8.0},
            **common,
        ),
        StageRecord("prune", False, NASTY, value=0.8, size_bytes=60_000_000, p50_ms=3.9, before_p50_ms=4.1, **common),
        StageRecord(
            "quantize",
            True,
            "dynamic",
            value=0.914,
            size_bytes=9_000_000,
            p50_ms=0.6,
            before_p50_ms=2.4,
            candidates=[
                {
                    "name": "dynamic",
                    "drop": 0.001,
                    "p50_ms": 0.6,
                    "p50_ratio_to_fp32": 0.25,
                    "chosen": True,
                    "reason": "fastest",
                },
                {"name": "static", "drop": 0.2, "p50_ms": None, "chosen": False, "reason": "beyond the bound"},
            ],
            details={"teacher_p50_ms": 8.2, "sensitivity": SENSITIVITY},
            **common,
        ),
    ]


@pytest.fixture(scope="module")
def told(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with a story: stages, a missed budget, hostile names."""
    old = open_bundle(small_bundle)
    manifest = dataclasses.replace(
        old.manifest,
        name=NASTY,
        stages=stages(),
        budget={
            "text": "size<=1MB",
            "met": False,
            "bounds": [{"bound": "size<=1MB", "found": 9e6, "limit": 1e6, "met": False, "basis": "measured"}],
        },
        data={"name": NASTY, "sizes": {"train": 10}, "rules": ["3 rows with empty text dropped", NASTY]},
        environment={"cpu": "Cortex-A72", "isa": "aarch64-neon", "versions": {"numpy": "2"}},
        profiles=[{"file": "models/fp32.onnx", "p50_ms": 1.25, "p95_ms": 2.5, "rss_bytes": 97_000_000, "threads": 1}],
        parity=[
            {
                "file": "models/fp32.onnx",
                "engine": "onnxruntime",
                "precision": "fp32",
                "isa": "x86_64-avx2",
                "against": "teacher",
                "cosine_mean": 0.9987,
                "cosine_min": 0.97,
                "top1": 0.961,
                "metric": "accuracy",
                "value": 0.914,
                "low": 0.9,
                "high": 0.93,
                "n": 3000,
            }
        ],
    )
    path = tmp_path_factory.mktemp("told") / "told.edge"
    names = [entry.path for entry in old.manifest.files]
    write_bundle(path, manifest, {name: old.file(name) for name in names})
    return path


VOID = {"meta", "br", "rect", "link", "input"}


class Reader(HTMLParser):
    """Checks that tags close in order, and keeps what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_html_is_whole_self_contained_and_escaped(told: Path) -> None:
    page = html([read(told)])
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for _, attributes in reader.tags:
        assert "src" not in attributes and str(attributes.get("href", "#")).startswith("#"), "nothing is fetched"
        assert not any(name.startswith("on") for name in attributes)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_html_says_what_happened(told: Path) -> None:
    page = html([read(told)])
    assert "Budget missed" in page
    assert "rolled back" in page
    assert "measured on Cortex-A72" in page
    assert "3 rows with empty text dropped" in page
    assert "beyond the bound" in page
    assert "4.00×" in page
    assert "layers.0.down" in page
    assert "10.1×" in page  # 91 MB to 9 MB
    assert page.count('scope="row"') >= 4
    assert "<caption>" in page


def test_markdown_has_the_table_and_survives_bars_in_names(told: Path) -> None:
    text = markdown([read(told)])
    row = next(line for line in text.splitlines() if line.startswith("| distill |"))
    assert "91.5 % [90.0, 93.0]" in row
    assert "-0.40 [-0.90, +0.10]" in row
    assert "<script" not in text
    table = text.split("## What each step bought")[1].split("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1


def test_rolled_back_stages_do_not_become_the_stage_before(told: Path) -> None:
    rows = {row["stage"]: row for row in read(told)["stages"]}
    assert rows["quantize"]["times_smaller"] == pytest.approx(70 / 9)
    assert rows["quantize"]["times_faster"] == pytest.approx(4.0)
    assert read(told)["result"]["times_faster"] == pytest.approx(8.2 / 0.6)


def test_write_leaves_three_files_and_nothing_else(told: Path, tmp_path: Path) -> None:
    page = write(told, tmp_path / "out")
    assert page.name == "told.report.html"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "told.report.html",
        "told.report.json",
        "told.report.md",
    ]
    found = json.loads((tmp_path / "out/told.report.json").read_text())
    assert found["schema_version"] == 1
    assert "folder" not in found["bundles"][0]["teacher"], "no path of the machine that made it"


def test_several_bundles_are_compared_first(told: Path, small_bundle: Path) -> None:
    both = [read(told), read(small_bundle)]
    assert html(both).index("side by side") < html(both).index("What each step bought")
    assert markdown(both).startswith("# Side by side")


def test_a_bundle_with_almost_nothing_still_has_a_report(small_bundle: Path) -> None:
    data = read(small_bundle)
    data |= {"stages": [], "result": {}, "environment": {}, "licences": [], "data": {"rules": []}}
    assert "No budget was asked for" in html([data])
    assert "No budget was asked for" in markdown([data])


def test_figures() -> None:
    assert f.metric("accuracy", 0.9434) == "94.3 %"
    assert f.metric("spearman", 0.8312) == "0.8312"
    assert f.change(0.0042) == "-0.42"
    assert f.change(-0.001) == "+0.10"
    assert f.change(0.0) == "+0.00"
    assert f.size(9_123_456) == "9.1 MB"
    assert f.milliseconds(0.6123) == "0.612 ms"
    assert f.times(12.34) == "12.3×"
    assert f.seconds(185) == "3 min 05 s"
    assert f.metric("accuracy", None) == f.change(float("nan")) == f.size(None) == f.DASH


def test_sensitivity_needs_a_cost() -> None:
    assert sensitivity_charts({}) == []
    assert sensitivity_charts({"quantize": [{"name": "a"}]}) == []
    [chart] = sensitivity_charts({"quantize": [{"name": "a", "cost": 1.0}, {"name": "b", "cost": 2.0}]})
    assert chart is not None
    assert [bar.label for bar in chart.bars] == ["b", "a"]


def test_engines_and_parity_stand_in_both_forms(told: Path) -> None:
    data = read(told)
    for text in (html([data]), markdown([data])):
        for figure in ("1.25 ms", "97.0 MB", "0.9987", "0.9700", "96.1 %", "x86_64-avx2", "the teacher, torch fp32"):
            assert figure in text, figure
