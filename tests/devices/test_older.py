"""Older instruction sets: a process held to one really is, and what its files answer becomes a measured tolerance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit
from edgekit.bundle import Bundle, open_bundle, write
from edgekit.bundle.golden import Tolerance
from edgekit.devices import older
from edgekit.errors import BundleError
from edgekit.runtimes import isa
from edgekit.runtimes.check import golden_of
from edgekit.runtimes.choose import Choice, offer
from tests.bundle.making import factory


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, label: str, total: int) -> int:
        return 0

    def advance(self, handle: int, steps: int = 1, note: str = "") -> None:
        return None

    def finish(self, handle: int) -> None:
        return None

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The levels that this machine can be held to; skips where there are none."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    found = older.levels()
    if not found:
        pytest.skip("this processor has no older instruction set that edgekit knows")
    reason = older.held(found[0])
    if isinstance(reason, str):
        pytest.skip(reason)
    return found


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx2 avx512f avx512bw avx512_vnni amx_tile amx_int8 avx_vnni", ["avx512_vnni", "avx_vnni", "avx512", "avx2"]),
        ("avx2 avx512f avx512bw avx512_vnni", ["avx512", "avx2"]),
        ("avx2 avx_vnni", ["avx2"]),
        ("avx2", []),
        ("sse4_1", []),
    ],
)
def test_levels_of_a_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: list[str]
) -> None:
    monkeypatch.setattr(isa.platform, "machine", lambda: "x86_64")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert older.levels(tmp_path) == expected


def test_a_held_process_sees_an_older_processor(able: list[str]) -> None:
    code = "import json, numpy; print(json.dumps(numpy._core._multiarray_umath.__cpu_features__))"
    for level in able:
        environment = older.held(level)
        assert isinstance(environment, dict)
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=True)
        seen = json.loads(done.stdout)
        assert seen["AVX2"]
        assert seen["AVX512F"] == level.startswith("avx512")
        assert seen["AVX512_ICL"] == (level == "avx512_vnni")


@pytest.fixture
def bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, able: list[str]) -> Bundle:
    """Two layers of MiniLM, INT8 and fp32."""
    return open_bundle(factory(tiny_model, tmp_path_factory)("embed"))


@pytest.mark.slow
def test_measured_tolerances(bundle: Bundle, able: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    found = older.tolerances(bundle.root, heard)
    assert heard.lines == []
    files = [model.path for model in bundle.manifest.models]
    assert {(one.file, one.isa) for one in found} == {(file, f"x86_64-{level}") for file in files for level in able}
    assert {one.basis for one in found} == {"measured"}
    by = {(one.file, one.isa): one for one in found}
    at = "x86_64-avx2"
    assert by["models/fp32.onnx", at].max_abs < by["models/int8.onnx", at].max_abs
    if isa.detect() in ("x86_64-amx_int8", "x86_64-avx512_vnni", "x86_64-avx_vnni"):
        golden = golden_of(bundle)
        assert golden is not None
        here = golden.tolerance("models/int8.onnx", isa.detect())
        assert by["models/int8.onnx", at].max_abs > here.max_abs, "16-bit sums saturate without VNNI"
    golden_too = {**bundle.manifest.golden}
    golden_too["tolerances"] = [*golden_too["tolerances"], *(one.to_dict() for one in found)]
    manifest = type(bundle.manifest).from_dict({**bundle.manifest.to_dict(), "golden": golden_too})
    files_there: dict[str, Path | bytes] = {one.path: bundle.file(one.path) for one in bundle.manifest.files}
    write(tmp_path / "x.edge", manifest, files_there)
    monkeypatch.setattr(isa, "detect", lambda: at)
    report = edgekit.verify(tmp_path / "x.edge")
    assert report.ok
    assert "on x86_64-avx2" in report.checks[-1].detail
    assert "tolerance measured" in report.checks[-1].detail


def test_what_an_engine_cannot_run_has_a_reason(bundle: Bundle, able: list[str]) -> None:
    golden = golden_of(bundle)
    assert golden is not None
    choices = [*offer(bundle).ready, Choice("models/fp32.onnx", "nothing")]
    found = older.measure(bundle, golden, choices, able[-1])
    assert [isinstance(found[choice], dict) for choice in choices] == [True, True, False]
    assert "nothing" in found[choices[-1]]


@pytest.mark.parametrize("compiler", ["none", "broken"])
def test_without_a_compiler_it_says_so(
    bundle: Bundle, able: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "new"))
    (tmp_path / "bin").mkdir()
    if compiler == "broken":
        (tmp_path / "bin/cc").write_text("#!/bin/sh\necho 'no headers here' >&2\nexit 1\n")
        (tmp_path / "bin/cc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    heard = Heard()
    assert older.tolerances(bundle.root, heard) == []
    assert len(heard.lines) == len(able)
    assert ("no C compiler" if compiler == "none" else "no headers here") in heard.lines[0]


def test_a_process_that_is_not_held_is_found_out(
    bundle: Bundle, able: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(older, "held", lambda level: {"EDGEKIT_HOLD": level})
    golden = golden_of(bundle)
    assert golden is not None
    found = older.measure(bundle, golden, offer(bundle).ready, able[-1])
    assert all("not preloaded" in str(one) for one in found.values())


def test_golden_vectors_are_needed(bundle: Bundle, tmp_path: Path) -> None:
    manifest = type(bundle.manifest).from_dict({**bundle.manifest.to_dict(), "golden": {}})
    write(tmp_path / "x.edge", manifest, {one.path: bundle.file(one.path) for one in bundle.manifest.files})
    with pytest.raises(BundleError, match="golden"):
        older.tolerances(tmp_path / "x.edge")


def test_numbers_that_cannot_be_compared_give_no_tolerance(
    bundle: Bundle, able: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"outputs": {"": [[float("nan")] * 384] * 5}}, {"outputs": {"": [[0.0] * 3] * 5}}]
    monkeypatch.setattr(older, "run_child", lambda job, extra: {"answers": rows})
    heard = Heard()
    found: list[Tolerance] = older.tolerances(bundle.root, heard)
    assert found == []
    assert "not finite" in heard.lines[0]
