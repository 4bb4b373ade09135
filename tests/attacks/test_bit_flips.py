"""A short run of benchmarks/bit_flips.py: every single-byte change over a signed bundle is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="needs the package cryptography: pip install edgekit[sign]")


def run(root: Path, bundle: Path, *more: str) -> dict[str, object]:
    command = [sys.executable, str(root / "benchmarks/bit_flips.py"), str(bundle), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, cwd=root)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", ["text", "dual"])
def test_no_changed_byte_is_loaded(
    made: dict[str, Path], kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = request.config.rootpath
    monkeypatch.setenv("PYTHONPATH", str(project))
    found = run(project, made[kind], "--count", "300", "--whole", "60", "--rounds", "1")
    assert (found["changes"], found["refused"], found["loaded"]) == (300, 300, 0), found["places_that_passed"]
    assert (found["checked_without_the_short_cut"], found["that_differed"]) == (60, 0)
    files = {path.relative_to(made[kind]).as_posix() for path in made[kind].rglob("*") if path.is_file()}
    assert set(found["by_file"]) == files | {"signature.json"}  # type: ignore[call-overload]


def test_a_change_that_passes_would_be_counted(monkeypatch: pytest.MonkeyPatch, made: dict[str, Path]) -> None:
    """The counting itself: with a check that lets everything pass, all are loaded."""
    import importlib.util

    path = Path(__file__).parents[2] / "benchmarks/bit_flips.py"
    spec = importlib.util.spec_from_file_location("bit_flips", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "open_bundle", lambda *_, **__: None)
    before = {path: path.read_bytes() for path in made["text"].rglob("*") if path.is_file()}
    found = module.flips(made["text"], b"", 50, 0, 10)
    assert (found["refused"], found["loaded"], len(found["places_that_passed"])) == (0, 50, 50)
    assert {path: path.read_bytes() for path in before} == before, "every byte was put back"
