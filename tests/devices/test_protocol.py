"""What a profile says fits its published form, and a board without typer, pydantic or torch can measure it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit.devices import profile, profiles
from edgekit.devices.profiles.schema import Part, ProfileFile
from tests.runtimes import tiny

BLOCKED = """
import sys
BLOCKED = {"torch", "transformers", "onnx", "typer", "click", "rich", "pydantic", "yaml", "jinja2", "scipy", "pandas",
           "sklearn", "datasets", "accelerate", "nncf", "safetensors", "huggingface_hub", "requests", "PIL"}
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Wall())
import json
from edgekit.devices.profiler import profile
found = profile(sys.argv[1], lengths=[8], runs=4, seconds=0, warmup=1, sustain=0.1, ops=True)
print(json.dumps(found.to_dict()))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bundle(tmp_path_factory.mktemp("protocol") / "tiny.edge")


@pytest.fixture(scope="module")
def on_a_board(bundle: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(bundle)], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_board_measures_with_the_runtime_alone(on_a_board: dict[str, Any]) -> None:
    assert on_a_board["rows"][0]["engine"] == "onnxruntime"
    assert on_a_board["sustain"]["runs"] > 0 and on_a_board["ops"][0]["rows"]


def test_what_is_written_is_what_is_published(on_a_board: dict[str, Any]) -> None:
    read = ProfileFile.model_validate(on_a_board)
    assert unknown(read) == [], "every key that is written is in the schema"
    assert (
        profiles.read(json.dumps(on_a_board).encode())["rows"][0]["samples_ms"] == on_a_board["rows"][0]["samples_ms"]
    )


def unknown(part: Part) -> list[str]:
    """Keys that the schema does not have."""
    found = list(part.model_extra or {})
    for name in type(part).model_fields:
        value = getattr(part, name)
        for one in value if isinstance(value, list) else [value]:
            found += [f"{name}.{key}" for key in unknown(one)] if isinstance(one, Part) else []
    return found


def test_numbers_of_a_row(bundle: Path) -> None:
    found = profile(bundle, threads=[1, 2], lengths=[8], runs=60, seconds=0, warmup=1)
    assert found.to_dict()["interleaved"] is True
    assert len(found.bundle_sha256) == 64 and set(found.files) >= {tiny.ONNX, "tokenizer.json"}
    assert found.created.endswith("Z")
    for row in found.rows:
        assert row["mean_low_ms"] <= row["mean_ms"] <= row["mean_high_ms"]
        assert row["jitter_ms"] == pytest.approx(row["p95_ms"] - row["p50_ms"], abs=2e-3)
        assert row["cpu_ms"] > 0 and 0 < row["utilisation"] <= row["threads"] + 1
        assert 10 < row["pss_mb"] <= row["rss_mb"]
        assert row["warmup"] >= 1 and isinstance(row["warmup_stable"], bool)
        assert len(row["samples_ms"]) == row["runs"] == 60
        assert (row["energy_mj"] is None) == (row["energy_source"] == "")


def test_a_board_is_recognised(bundle: Path, tmp_path: Path) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_text("raspberrypi,5-model-b\0brcm,bcm2712\0")
    found = profile(bundle, lengths=[8], runs=1, seconds=0, warmup=0, root=tmp_path)
    assert found.to_dict()["board"] == "pi5"
    assert found.rows[0]["warmup"] == 0 and found.rows[0]["warmup_stable"] is None
