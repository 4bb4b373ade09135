"""What a report shows of a ladder: a row a rung, and where each stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.report import html, markdown, read
from edgekit.report.ladder import ladder_rows, rungs_plot
from tests.runtimes import tiny


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.ladder(tmp_path_factory.mktemp("ladder") / "x.edge")


def test_a_row_a_rung_with_accuracy_and_latency(bundle: Path) -> None:
    rows = ladder_rows(read(bundle)["ladder"])
    assert [row["rung"] for row in rows] == ["6", "4", "2"]
    assert rows[2] == {
        "rung": "2",
        "layers": "2",
        "accuracy": "90.0 %",
        "95 %": "[89.0, 91.0]",
        "agreement with teacher": "97.0 %",
        "p50": "1 ms",
        "faster than the first": "3.00×",
        "size": "2.0 KB",
    }


def test_the_picture_puts_the_right_one_up_and_the_fast_one_left(bundle: Path) -> None:
    found = rungs_plot(read(bundle))
    assert found is not None
    first, _, last = found.marks
    assert last.x < first.x and last.y > first.y, "y grows downwards"
    assert found.best == [3, 2, 1], "no rung beats another in both"
    assert "6, 95.0 % at 3 ms" in found.description and "2, 90.0 % at 1 ms" in found.description


def test_both_forms_show_it_and_every_file(bundle: Path) -> None:
    data = read(bundle)
    page, text = html([data]), markdown([data])
    assert "## Ladder" in text and ">Ladder</h2>" in page
    assert text.count("models/2/fp32.onnx") >= 1 and data["models"][2]["path"] == "models/2/fp32.onnx"


def test_no_ladder_no_section(small_bundle: Path) -> None:
    data = read(small_bundle)
    assert "Ladder" not in markdown([data]) and ">Ladder</h2>" not in html([data])
