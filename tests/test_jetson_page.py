"""docs/boards/jetson.md: every command that needs no Jetson runs; those that do are known by name."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import pytest

from edgekit.cli.main import run
from edgekit.devices.boards import load
from edgekit.errors import FallbackWarning
from edgekit.recipe import load_recipe
from tests.runtimes import tiny

PAGE = (Path(__file__).resolve().parent.parent / "docs/boards/jetson.md").read_text()
LINES = list(dict.fromkeys(re.findall(r"^\$ (.+)$", PAGE, flags=re.MULTILINE)))
ON_THE_BOARD = {  # they install packages there
    "python3 -m venv edge && . edge/bin/activate",
    "pip install 'edgekit[cli,onnxruntime,litert]'",
    "pip uninstall -y onnxruntime",
    'pip install onnxruntime-gpu --index-url "$JETSON_INDEX"',
}
NO_GPU = 4  # what `verify --device gpu` must end with where no GPU ran


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.bundle(tmp_path / "sentiment.edge")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_every_line_is_one_or_the_other() -> None:
    assert {line for line in LINES if not line.startswith("edgekit ")} == ON_THE_BOARD


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("edgekit ")])
def test_commands(workplace: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = shlex.split(line)[1:]
    if arguments[0] == "profile":
        arguments = [*arguments[:-1], "3", "--warmup", "1", "--lengths", "16"]
    expected = NO_GPU if arguments[0] == "verify" and "gpu" in arguments else 0
    assert run(arguments) == expected
    printed = " ".join(" ".join(capsys.readouterr()).split())  # a table breaks its lines
    if "gpu" in arguments and arguments[0] == "profile":
        assert re.search(r"GPU nodes .* 0% ", printed)
    elif "gpu" in arguments:
        assert "built without TensorrtExecutionProvider" in printed


def test_the_python_of_the_page(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", FallbackWarning)
        exec(block, {})  # the page's own lines
    assert any(issubclass(one.category, FallbackWarning) for one in told)
    assert "the processor serves" in capsys.readouterr().out


def test_the_recipe_makes_a_file_for_each() -> None:
    recipe = load_recipe("sentiment", {"precision": "fp16,w8a8", "engines": "onnxruntime,litert"})
    assert recipe.precision == ["fp16", "w8a8"]


@pytest.mark.parametrize(
    ("key", "used"), [("jetson-agx-orin", 1), ("jetson-orin-nano", 1), ("jetson-xavier-nx", 1), ("jetson-nano", 0)]
)
def test_the_boards_say_the_same(key: str, used: int) -> None:
    assert f"`{key}`" in PAGE
    board = load(key)
    assert [one.used for one in board.accelerators] == [bool(used)]
    assert bool(used) == any("docs/boards/jetson.md" in fault.instead for fault in board.faults)
