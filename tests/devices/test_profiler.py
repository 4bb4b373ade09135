from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import profile
from edgekit.devices.memory import model_rss_bytes
from edgekit.errors import InputError

KEYS = """engine file precision threads batch length load_ms first_ms p50_ms p90_ms p95_ms p99_ms max_ms
preprocess_p50_ms model_p50_ms postprocess_p50_ms rss_mb samples_ms""".split()


def test_rows_of_a_sweep(small_bundle: Path) -> None:
    found = profile(small_bundle, threads=[1, 2], lengths=[8, 64], batches=[1], runs=12, warmup=2).to_dict()
    assert found["schema_version"] == 1
    assert found["environment"]["cpu"]
    rows = found["rows"]
    assert [(row["threads"], row["length"]) for row in rows] == [(1, 8), (1, 64), (2, 8), (2, 64)]
    for row in rows:
        assert set(KEYS) <= set(row)
        assert row["tokens"] == row["length"], "texts are made to the token"
        assert len(row["samples_ms"]) == 12
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["p50_ms"] == pytest.approx(np.median(row["samples_ms"]), abs=1e-3)
        assert row["load_ms"] > row["model_p50_ms"] > 0
        assert 40 < row["rss_mb"] < 600
        assert row["rss_steady_mb"] <= row["rss_mb"]
    one, many = rows[0], rows[1]
    assert many["model_p50_ms"] > one["model_p50_ms"], "64 tokens cost more than 8"


def test_a_batch_is_a_batch(small_bundle: Path) -> None:
    rows = profile(small_bundle, lengths=[16], batches=[1, 8], runs=5, warmup=1).rows
    assert rows[1]["batch"] == 8
    assert rows[1]["model_p50_ms"] > rows[0]["model_p50_ms"]


@pytest.mark.parametrize(
    ("kind", "value", "name"),
    [("lengths", [4096], "lengths"), ("threads", [0], "threads"), ("batches", [0], "batch"), ("files", ["x"], "x")],
)
def test_what_cannot_be_measured_is_named(small_bundle: Path, kind: str, value: list[int], name: str) -> None:
    with pytest.raises(InputError, match=name):
        profile(small_bundle, **{kind: value})


def test_memory_of_a_fresh_process(small_bundle: Path) -> None:
    found = model_rss_bytes(small_bundle, 1, ["a charming film", "no"])
    assert found is not None
    size = sum(path.stat().st_size for path in small_bundle.rglob("*") if path.is_file())
    assert size < found < size + 400e6
