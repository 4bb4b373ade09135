"""``edgekit profile`` writes files, and compares them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.devices import profiles
from tests.devices.profiles.hand import profile, row
from tests.runtimes import tiny


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bundle(tmp_path_factory.mktemp("cli-profile") / "tiny.edge")


def test_a_profile_goes_to_a_file(edgekit, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "new/tiny.here.profile.json"
    flags = ["--lengths", "8", "--runs", "3", "--seconds", "0", "--warmup", "1"]
    done = edgekit("profile", bundle, *flags, "--sustain", "0.2", "--ops", "-o", path)
    assert done.code == 0, done.err
    found = profiles.read(path)
    assert found["sustain"]["runs"] > 0 and found["ops"][0]["providers"][0]["share"] == 1.0
    assert f"wrote {path}" in done.err
    assert "operators: onnxruntime, models/fp32.onnx: CPUExecutionProvider 100.0%" in done.err
    assert "sustained 0 s: first 0 s" in done.err
    assert ("energy: not measured" in done.err) == (found["rows"][0]["energy_mj"] is None)
    assert "matmul" in done.out
    again = edgekit("profile", bundle, *flags, "-o", path)
    assert again.code == 2 and "--overwrite" in again.error
    assert not list(bundle.glob("**/*profile*")), "the bundle stays as it was signed"


def test_two_profiles_side_by_side(edgekit, tmp_path: Path) -> None:
    fast, slow = ([level + k % 7 / 10 for k in range(200)] for level in (5.0, 8.0))
    (tmp_path / "a.json").write_text(json.dumps(profile(row(samples_ms=fast, p50_ms=5.3))))
    (tmp_path / "b.json").write_text(json.dumps(profile(row(samples_ms=slow, p50_ms=8.3), board="pi5")))
    files = (tmp_path / "a.json", tmp_path / "b.json")
    done = edgekit("profile", "--compare", *files)
    assert done.code == 0
    assert "1.566" in done.out and "slower" in done.out
    assert "differs: board: nothing and pi5" in done.err
    assert "no difference shown" not in done.err
    found = edgekit("profile", "--compare", *files, "--format", "json").json
    assert found["rows"][0]["verdict"] == "slower" and found["schema_version"] == 1
    assert edgekit("profile", "--compare", *files, "--format", "md").out.startswith("| file |")
    same = edgekit("profile", "--compare", files[0], files[0])
    assert "no difference shown" in same.out and "no difference shown" in same.err


def test_what_cannot_be_compared_is_named(edgekit, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert "a.json: schema_version" in edgekit("profile", "--compare", tmp_path / "a.json", tmp_path / "a.json").error
    assert "--compare" in edgekit("profile").error
