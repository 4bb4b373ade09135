from __future__ import annotations

import pytest

from edgekit.devices.doctor import examine, known_breakages, requirements


def test_every_extra_is_listed_with_its_pip_line() -> None:
    packages = {package.name: package for package in requirements()}
    assert {"numpy", "tokenizers", "onnxruntime", "torch", "typer"} <= set(packages)
    assert packages["numpy"].extra == "base"
    assert packages["torch"].fix == "pip install 'edgekit[compress]'"
    assert packages["numpy"].version


def test_this_environment_is_sound() -> None:
    found = examine()
    assert found.ok, [finding for finding in found.findings if not finding.ok]
    assert {"python", "engine", "cache"} <= {finding.name for finding in found.findings}
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
