from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.devices.doctor import engine_findings, examine, gpu_findings, known_breakages, requirements


def test_every_extra_is_listed_with_its_pip_line() -> None:
    packages = {package.name: package for package in requirements()}
    assert {"numpy", "tokenizers", "onnxruntime", "torch", "typer"} <= set(packages)
    assert packages["numpy"].extra == "base"
    assert packages["torch"].fix == "pip install 'edgekit[compress]'"
    assert packages["numpy"].version


@pytest.mark.slow
def test_this_environment_is_sound() -> None:
    found = examine()
    assert found.ok, [finding for finding in found.findings if not finding.ok]
    names = {finding.name for finding in found.findings}
    assert {"python", "engine", "cache", "import onnxruntime"} <= names
    assert found.to_dict()["schema_version"] == 1


@pytest.mark.parametrize(
    ("installed", "culprit"),
    [
        ({"torch": "2.13.0+cpu", "torchvision": "0.28.0"}, "torchvision"),
        ({"torch": "2.13.0", "torchvision": "0.28.0+cpu"}, "torchvision"),
        ({"tflite-runtime": "2.14.0", "numpy": "2.4.6"}, "tflite-runtime"),
        ({"pydantic": "2.14.0", "typing-extensions": "4.12.2"}, "pydantic"),
        ({"transformers": "5.2.0"}, "transformers"),
        ({"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}, "onnxruntime"),
    ],
)
def test_known_breakages(installed: dict[str, str], culprit: str) -> None:
    broken = [finding for finding in known_breakages(installed) if not finding.ok]
    assert [finding.name for finding in broken] == [culprit]
    assert broken[0].fix


def test_engines_that_are_here_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.ok for one in engine_findings({})] == [False]
    found = engine_findings({"onnxruntime": "1.31.1"})
    assert [(one.name, one.ok) for one in found] == [("engine", True), ("import onnxruntime", True)]
    assert "missing: openvino, ai-edge-litert" in found[0].detail
    for code, told in (("import os; os.kill(os.getpid(), 4)", "signal 4"), ("raise OSError('no libgomp')", "libgomp")):
        (tmp_path / "onnxruntime.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        broken = engine_findings({"onnxruntime": "1.31.1"})[1]
        assert not broken.ok
        assert told in broken.detail
        assert broken.fix


def test_tflite_runtime_is_known_for_wrong_answers() -> None:
    old = {"tflite-runtime": "2.14.0", "numpy": "1.26.4"}
    (alone,) = [one for one in known_breakages(old) if one.name == "tflite-runtime"]
    assert "wrongly" in alone.detail
    assert "edgekit[litert]" in alone.fix
    (beside,) = [one for one in known_breakages({**old, "ai-edge-litert": "2.3.0"}) if one.name == "tflite-runtime"]
    assert beside.fix == ""


@pytest.mark.parametrize(
    "installed",
    [
        {"torch": "2.13.0+cpu", "torchvision": "0.28.0+cpu"},
        {"tflite-runtime": "2.14.0", "numpy": "1.26.4"},
        {"pydantic": "2.11.10", "typing-extensions": "4.12.2"},
        {"pydantic": "2.14.0", "typing-extensions": "4.16.0"},
        {"transformers": "4.57.6", "onnxruntime": "1.31.1"},
    ],
)
def test_sound_pairs_pass(installed: dict[str, str]) -> None:
    assert all(finding.ok for finding in known_breakages(installed))


def test_a_jetson_without_a_gpus_onnxruntime_is_told_what_to_install(tmp_path: Path) -> None:
    assert gpu_findings({"onnxruntime": "1.31.1"}, tmp_path) == []
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")
    (found,) = gpu_findings({"onnxruntime": "1.31.1"}, tmp_path)
    assert (found.name, found.ok) == ("gpu", True)
    assert "GPU unknown, TensorRT unknown" in found.detail and "CPU alone" in found.detail
    assert "docs/boards/jetson.md" in found.fix
    (broken,) = gpu_findings({"onnxruntime-gpu": "1.31.1"}, tmp_path)
    assert not broken.ok  # the package is there, and what is imported has no GPU


def test_a_gpus_onnxruntime_counts_as_onnxruntime() -> None:
    found = engine_findings({"onnxruntime-gpu": "1.23.0"})
    assert [(one.name, one.ok) for one in found] == [("engine", True), ("import onnxruntime-gpu", True)]
    assert "missing: openvino, ai-edge-litert" in found[0].detail
