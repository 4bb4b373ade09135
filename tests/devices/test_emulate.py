"""A bundle on ARM processors, emulated. The slow tests build an arm64 userland once, in about ten seconds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bundle import Bundle, open_bundle, write
from edgekit.cli.main import run
from edgekit.devices import arm_parity, emulate
from edgekit.devices.emulate import Answers
from edgekit.devices.userland import SUITE, debian_mirror, userland
from edgekit.errors import InputError, MissingDependencyError
from edgekit.runtimes.check import golden_of
from tests.arm_bundles import TEXTS, write_bundle

ISAS = {"cortex-a72": "aarch64-neon", "cortex-a76": "aarch64-dotprod"}


@pytest.fixture(scope="module")
def arm_bundle(tiny_encoder: Path, tiny_litert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of MiniLM, three classes: fp32 and INT8 for onnxruntime and LiteRT, and an ONNX file that is none."""
    return write_bundle(tiny_encoder, tiny_litert, tmp_path_factory.mktemp("arm"), "arm", broken=True)


@pytest.fixture(scope="module")
def answered(board: None, arm_bundle: Path) -> list[Answers]:
    """Every file of the bundle on every processor."""
    return emulate.answers(arm_bundle)


@pytest.mark.slow
def test_every_file_answers_on_arm_as_it_did_here(answered: list[Answers], arm_bundle: Path) -> None:
    assert {(one.cpu, one.isa) for one in answered} == set(ISAS.items()), "the runtime sees the board, not this machine"
    golden = golden_of(open_bundle(arm_bundle))
    assert golden is not None
    good = [one for one in answered if one.file != "models/broken.onnx"]
    assert [one.reason for one in good] == [""] * 8
    rows = arm_parity.rows("classify", golden, good, {"fp32": golden.outputs["models/fp32.onnx"]})
    assert len(rows) == 2 * len(good)
    for row in rows:
        assert row["n"] == len(TEXTS)
        if row["against"] == "golden":
            stated = golden.tolerance(row["file"], "*")
            assert row["max_abs"] <= stated.max_abs, row
            assert row["cosine_min"] >= (0.999 if row["precision"] == "fp32" else stated.min_cosine), row
        if row["precision"] == "fp32":
            assert row["cosine_min"] >= 0.99999, row
            assert row["top1"] == 1.0


@pytest.mark.slow
def test_a_broken_file_gives_its_reason(answered: list[Answers], arm_bundle: Path) -> None:
    broken = [one for one in answered if one.file == "models/broken.onnx"]
    assert [one.cpu for one in broken] == list(ISAS)
    assert all("broken.onnx" in one.reason and not one.outputs for one in broken)
    golden = golden_of(open_bundle(arm_bundle))
    assert golden is not None
    rows = arm_parity.rows("classify", golden, broken)
    assert [(row["n"], row["cosine_mean"], row["reason"]) for row in rows] == [(0, None, one.reason) for one in broken]
    assert arm_parity.tolerances(golden, broken) == []


@pytest.mark.slow
def test_an_engine_that_dies_gives_its_reason(board: None, arm_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # told that it has dot products, an engine uses them on a processor that does not
    monkeypatch.setitem(emulate.PROCESSORS, "cortex-a72", emulate.PROCESSORS["cortex-a76"])
    found = {one.file: one for one in emulate.answers(arm_bundle, ["cortex-a72"], ["no"])}
    assert "SIGILL" in found["models/w8a8.onnx"].reason
    assert len(found["models/fp32.onnx"].outputs) == 1, "the others answer all the same"


@pytest.mark.slow
def test_verify_holds_the_bundle_to_what_was_measured_there(
    answered: list[Answers], arm_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = open_bundle(arm_bundle)
    golden = golden_of(bundle)
    assert golden is not None
    golden = replace(golden, tolerances=[*golden.tolerances, *arm_parity.tolerances(golden, answered)])
    path = rewritten(bundle, golden.to_manifest(), tmp_path / "measured.edge")
    code = run(["verify", str(path), "--cpu", "cortex-a72,cortex-a76", "--format", "json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert {name.rsplit(" ", 1)[1] for name in checks} == set(ISAS)
    for cpu, isa in ISAS.items():
        for model in bundle.manifest.models:
            check = checks[f"outputs {model.path} on {cpu}"]
            assert check["ok"] is (model.path != "models/broken.onnx"), check
            if check["ok"]:
                assert f"on {isa}" in check["detail"]
                assert "tolerance measured under qemu" in check["detail"]
    assert code == 4, "the broken file"


def rewritten(bundle: Bundle, golden: dict[str, object], path: Path) -> Path:
    """A copy of ``bundle`` at ``path`` with another list of tolerances."""
    files = {entry.path: bundle.file(entry.path) for entry in bundle.manifest.files}
    write(path, replace(bundle.manifest, golden=golden), files)
    return path


def test_what_is_missing_is_named(small_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"cortex-a1; expected cortex-a72, cortex-a76"):
        emulate.verify(small_bundle, ["cortex-a1"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependencyError, match="apt-get install --no-install-recommends qemu-user-static"):
        emulate.verify(small_bundle)
    with pytest.raises(MissingDependencyError, match="apt-get"):
        userland()


@pytest.mark.slow
def test_a_userland_that_cannot_be_fetched_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is missing")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=f"arm64 packages of Debian {SUITE} cannot be fetched"):
        userland(mirror="http://127.0.0.1:9/debian")
    assert list((tmp_path / "userland").iterdir()) == []


def test_a_machine_whose_apt_lacks_the_suite_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is missing")
    (tmp_path / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{tmp_path}/none"; Dir::Etc::SourceParts "{tmp_path}/none";'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    with pytest.raises(MissingDependencyError, match="no such suite"):
        debian_mirror()
