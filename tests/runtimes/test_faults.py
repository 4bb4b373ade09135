"""An engine that fails is passed over with one warning and the next one serves, with right answers."""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.bundle import Manifest, open_bundle, read_tensors, write, write_tensors
from edgekit.errors import EdgekitError, EdgekitWarning, EngineError, MissingDependencyError, VerificationError
from edgekit.runtimes import calibrate, engines, isa
from edgekit.runtimes.model import Model
from tests.runtimes.three import FILES, TEXTS

BUNDLES = [
    pytest.param("two_engines", id="two"),
    pytest.param("three_engines", id="three", marks=pytest.mark.slow),
]
CASES = [
    pytest.param("two_engines", "onnxruntime", id="two-onnxruntime"),
    pytest.param("two_engines", "openvino", id="two-openvino"),
    *(pytest.param("three_engines", name, id=f"three-{name}", marks=pytest.mark.slow) for name in FILES),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that no other test has seen."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def spoil(source: Path, target: Path, *names: str) -> Path:
    """A copy whose model files of engines ``names`` are other bytes of the same size; their hashes are wrong now."""
    shutil.copytree(source, target)
    for name in names:
        for model in open_bundle(source).manifest.models:
            if model.engine == name:
                for part in (model.path, *model.parts):
                    size = (target / part).stat().st_size
                    (target / part).write_bytes(b"<?xml broken" * (size // 12) + b"." * (size % 12))
    return target


def other_answers(source: Path, target: Path, *names: str) -> Path:
    """A copy with right hashes whose golden vectors ask engines ``names`` for other answers than they give."""
    bundle = open_bundle(source)
    tensors = read_tensors(source / "golden.safetensors")
    for name in names:
        tensors[f"outputs.{FILES[name]}"] = tensors[f"outputs.{FILES[name]}"][::-1].copy()
    files: dict[str, Path | bytes] = {one.path: source / one.path for one in bundle.manifest.files}
    write(target, bundle.manifest, files | {"golden.safetensors": write_tensors(tensors)})
    return target


def first(source: Path, target: Path, name: str, ms: float = 0.01) -> Path:
    """A copy that prefers engine ``name``: by its place, and by a profile of this machine when ``ms`` is not 0."""
    bundle = open_bundle(source)
    value = bundle.manifest.to_dict()
    value["models"].sort(key=lambda model: model["engine"] != name)
    if ms:
        row = {"environment": isa.machine(), "threads": 1, "file": FILES[name], "engine": name, "p50_ms": ms}
        value["profiles"] = [row]
    files: dict[str, Path | bytes] = {one.path: source / one.path for one in bundle.manifest.files}
    write(target, Manifest.from_dict(value), files)
    return target


def missing(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the packages of engines ``names`` not be found."""
    gone = {engines._ENGINES[name].package for name in names}
    found = engines.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda package: None if package in gone else found(package))


def answers_right(model: Model, source: Path) -> None:
    bundle = open_bundle(source)
    tensors = read_tensors(bundle.file("golden.safetensors"))
    np.testing.assert_allclose(model.logits(TEXTS), tensors[f"outputs.{FILES['onnxruntime']}"], atol=2e-4)


def load_with_one_warning(path: Path, **given: Any) -> tuple[Model, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = edgekit.load(path, threads=1, **given)
    assert [one.category for one in caught] == [EdgekitWarning], [str(one.message) for one in caught]
    assert caught[0].filename == __file__
    return model, str(caught[0].message)


def load_quietly(path: Path, **given: Any) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return edgekit.load(path, **{"threads": 1, **given})


@pytest.mark.parametrize(("name", "serving"), CASES)
def test_files_that_are_overwritten_change_no_answer(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, serving: str
) -> None:
    source = request.getfixturevalue(name)
    path = first(source, tmp_path / "a.edge", serving, 0)
    model = edgekit.load(path, threads=1, engine=serving)
    before = model.logits(TEXTS)  # of several lengths: what memory each needs is there
    for one in open_bundle(source).manifest.files:
        with open(path / one.path, "r+b") as file:  # in place: a mapped file would show it
            file.write(bytes((path / one.path).stat().st_size))
    np.testing.assert_array_equal(model.logits(TEXTS), before)
    with pytest.raises(EdgekitError):
        edgekit.load(path, threads=1)


@pytest.mark.parametrize(("name", "broken"), CASES)
@pytest.mark.parametrize("profiled", [True, False], ids=["profile", "calibration"])
def test_a_damaged_file(request: pytest.FixtureRequest, tmp_path: Path, name: str, broken: str, profiled: bool) -> None:
    source = request.getfixturevalue(name)
    path = spoil(first(source, tmp_path / "a.edge", broken, 0.01 * profiled), tmp_path / "b.edge", broken)
    model, told = load_with_one_warning(path, check_hashes=False)
    assert model.engine != broken
    assert f"{broken} ({FILES[broken]}): " in told
    answers_right(model, source)
    with pytest.raises(EngineError, match=Path(FILES[broken]).name):
        edgekit.load(path, engine=broken, check_hashes=False)


@pytest.mark.parametrize(("name", "broken"), CASES)
@pytest.mark.parametrize("profiled", [True, False], ids=["profile", "calibration"])
def test_a_missing_library(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    broken: str,
    profiled: bool,
) -> None:
    source = request.getfixturevalue(name)
    path = first(source, tmp_path / "a.edge", broken, 0.01 * profiled)
    missing(monkeypatch, broken)
    model, told = load_with_one_warning(path)
    assert model.engine != broken
    assert f"pip install edgekit[{broken}]" in told
    answers_right(model, source)
    with pytest.raises(MissingDependencyError, match=broken):
        edgekit.load(path, engine=broken)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "broken"), CASES)
@pytest.mark.parametrize("profiled", [True, False], ids=["profile", "calibration"])
def test_broken_golden_vectors(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, broken: str, profiled: bool
) -> None:
    source = request.getfixturevalue(name)
    path = other_answers(first(source, tmp_path / "a.edge", broken, 0.01 * profiled), tmp_path / "b.edge", broken)
    model, told = load_with_one_warning(path)
    assert model.engine != broken
    assert f"golden vectors of {FILES[broken]}" in told
    answers_right(model, source)
    with pytest.raises(VerificationError, match="max abs"):
        edgekit.load(path, file=FILES[broken])
    report = edgekit.verify(path)
    assert [check.name for check in report.checks if not check.ok] == [f"outputs {FILES[broken]}"]


def test_an_engine_that_throws(two_engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even something that no adapter foresaw."""
    from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine

    path = first(two_engines, tmp_path / "a.edge", "onnxruntime")

    def run(*_: object) -> None:
        raise ZeroDivisionError("a bug of an engine")

    monkeypatch.setattr(OnnxRuntimeEngine, "run", run)
    model, told = load_with_one_warning(path)
    assert model.engine == "openvino"
    assert "ZeroDivisionError: a bug of an engine" in told
    with pytest.raises(EngineError, match="a bug of an engine"):
        edgekit.load(path, engine="onnxruntime")


@pytest.mark.parametrize("name", BUNDLES)
def test_all_broken_is_one_error_with_each_cause(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    source = request.getfixturevalue(name)
    names = [model.engine for model in open_bundle(source).manifest.models]
    path = spoil(other_answers(source, tmp_path / "a.edge", names[0]), tmp_path / "b.edge", *names[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EngineError, match="no engine runs") as caught:
            edgekit.load(path, threads=1, check_hashes=False)
    for engine in names:
        assert f"{engine} ({FILES[engine]}): " in str(caught.value)


def test_broken_and_missing_are_told_together(
    two_engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = other_answers(two_engines, tmp_path / "a.edge", "onnxruntime")
    missing(monkeypatch, "openvino")
    with pytest.raises(EngineError, match=r"golden vectors of models/fp32\.onnx") as caught:
        edgekit.load(path)
    assert "openvino (models/fp32.xml): not installed" in str(caught.value)
    missing(monkeypatch, "onnxruntime", "openvino")
    with pytest.raises(MissingDependencyError, match="none of its engines"):
        edgekit.load(path)


@pytest.mark.parametrize("name", BUNDLES)
def test_verify_runs_every_engine(request: pytest.FixtureRequest, name: str) -> None:
    source = request.getfixturevalue(name)
    report = edgekit.verify(source)
    assert report.ok
    told = {check.name: check.detail for check in report.checks}
    for model in open_bundle(source).manifest.models:
        assert told[f"outputs {model.path}"].startswith(f"{model.engine} ")
        assert "tolerance measured" in told[f"outputs {model.path}"]


def test_verify_tells_what_it_could_not_run(two_engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch, "openvino")
    told = {check.name: check for check in edgekit.verify(two_engines).checks}
    assert told["outputs models/fp32.xml"].ok
    assert "openvino is not installed" in told["outputs models/fp32.xml"].detail


def remembered(cache: Path) -> dict[str, Any]:
    (file,) = (cache / "choices").iterdir()
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each calibration."""
    seconds: list[float] = []
    real = calibrate.calibrate

    def call(*given: Any) -> Any:
        began = time.monotonic()
        try:
            return real(*given)
        finally:
            seconds.append(time.monotonic() - began)

    monkeypatch.setattr(calibrate, "calibrate", call)
    return seconds


def test_the_first_load_calibrates_and_the_next_remembers(
    two_engines: Path, cache: Path, counted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "LIMIT_S", 60.0)  # of a busy machine
    model = load_quietly(two_engines)
    found = remembered(cache)
    ms = {row["engine"]: row["p50_ms"] for row in found["ms"]}
    assert set(ms) == {"onnxruntime", "openvino"}
    assert found["broken"] == []
    assert model.engine == min(ms, key=lambda name: ms[name])
    assert load_quietly(two_engines).engine == model.engine
    assert len(counted) == 1
    load_quietly(two_engines, threads=2)
    assert len(counted) == 2, "another limit of threads"
    # What is remembered decides, not the manifest's order.
    (file,) = [one for one in (cache / "choices").iterdir() if json.loads(one.read_text()) == found]
    for name in ("onnxruntime", "openvino"):
        rows = [{**row, "p50_ms": 0.1 if row["engine"] == name else 5.0} for row in found["ms"]]
        file.write_text(json.dumps({**found, "ms": rows}))
        assert load_quietly(two_engines).engine == name


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 10, b'{"schema_version": 1, "tries": 1, "ms": 1}'])
def test_a_damaged_memory_is_made_again(
    two_engines: Path, cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def call(_: Path, choices: list[calibrate.Choice], *__: object) -> calibrate.Measured:
        calls.append(len(choices))
        return calibrate.Measured({choice: float(len(choice.file)) for choice in choices})

    monkeypatch.setattr(calibrate, "calibrate", call)
    for _ in range(2):
        load_quietly(two_engines)
    assert calls == [2]
    (file,) = (cache / "choices").iterdir()
    file.write_bytes(content)
    assert load_quietly(two_engines).engine == "openvino", "models/fp32.xml is the shorter name"
    assert calls == [2, 2]
    assert len(remembered(cache)["ms"]) == 2


@pytest.mark.slow
def test_a_memory_that_cannot_be_written(
    two_engines: Path, tmp_path: Path, counted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file" / "cache"))
    load_quietly(two_engines)
    load_quietly(two_engines)
    assert len(counted) == 2


def test_a_calibration_ends_in_time(two_engines: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "LIMIT_S", 0.1)  # no engine can be loaded in that
    began = time.monotonic()
    found = calibrate.calibrate(two_engines, [calibrate.Choice(FILES["onnxruntime"], "onnxruntime")], 1, True)
    assert time.monotonic() - began < 1.0
    assert found == calibrate.Measured()
    assert load_quietly(two_engines).engine == "onnxruntime", "the manifest's order"
    assert remembered(cache)["ms"] == []


@pytest.mark.slow
def test_what_was_not_reached_is_measured_by_a_later_load(
    two_engines: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (calibrate.Choice(FILES[name], name) for name in ("onnxruntime", "openvino"))
    asked: list[list[calibrate.Choice]] = []

    def call(_: Path, choices: list[calibrate.Choice], *__: object) -> calibrate.Measured:
        asked.append(choices)
        return calibrate.Measured({first: 5.0}) if len(asked) == 1 else calibrate.Measured({second: found})

    for found in (1.0, 9.0):
        shutil.rmtree(cache, ignore_errors=True)
        asked.clear()
        monkeypatch.setattr(calibrate, "calibrate", call)
        served = [load_quietly(two_engines).engine for _ in range(3)]
        assert asked == [[first, second], [second]]
        assert served == ["onnxruntime", *["openvino" if found < 5 else "onnxruntime"] * 2]
    shutil.rmtree(cache)
    monkeypatch.setattr(calibrate, "calibrate", lambda *given: asked.append(given[1]) or calibrate.Measured())
    asked.clear()
    for _ in range(5):
        load_quietly(two_engines)
    assert asked == [[first, second]] * 3, "then it is left at that"


@pytest.mark.slow
def test_an_engine_that_kills_its_process_takes_nobody_along(
    two_engines: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killer = tmp_path / "killer"
    killer.mkdir()
    (killer / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(killer), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(calibrate, "LIMIT_S", 60.0)
    model, told = load_with_one_warning(two_engines)
    assert model.engine == "openvino"
    assert "its process ended with signal 4" in told
    assert [row["engine"] for row in remembered(cache)["ms"]] == ["openvino"]
    assert load_with_one_warning(two_engines)[0].engine == "openvino", "remembered"


def test_one_engine_is_never_calibrated(
    small_bundle: Path, two_engines: Path, cache: Path, counted: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_quietly(small_bundle)
    load_quietly(two_engines, engine="openvino")
    load_quietly(two_engines, file=FILES["openvino"])
    missing(monkeypatch, "openvino")
    load_quietly(two_engines)
    assert counted == []
    assert not cache.exists()


def test_a_profile_of_this_machine_spares_the_calibration(
    two_engines: Path, tmp_path: Path, counted: list[float]
) -> None:
    assert load_quietly(first(two_engines, tmp_path / "a.edge", "openvino")).engine == "openvino"
    assert counted == []
