"""The verbs of a board work with nothing but edgekit[onnxruntime,cli] (pydantic may be there: typer brings it)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WALLED = """
import sys
ABSENT = ("torch transformers accelerate datasets safetensors onnx onnxscript nncf yaml pandas pyarrow scipy "
          "sklearn huggingface_hub").split()
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Wall())
from edgekit.__main__ import main
sys.exit(main())
"""


def walled(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WALLED, *arguments], capture_output=True, text=True, cwd=root, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "BUNDLE", "a charming film"],
        ["verify", "BUNDLE"],
        ["profile", "BUNDLE", "--lengths", "8", "--runs", "3", "--seconds", "0"],
        ["report", "BUNDLE", "--format", "md"],
        ["devices"],
        ["doctor"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_verbs_of_a_board(root: Path, small_bundle: Path, arguments: list[str]) -> None:
    done = walled(root, *[str(small_bundle) if one == "BUNDLE" else one for one in arguments])
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("arguments", [["compress"], ["eval", "BUNDLE", "-d", "x.csv"]], ids=lambda a: a[0])
def test_verbs_of_a_workstation_say_what_is_missing(root: Path, small_bundle: Path, arguments: list[str]) -> None:
    done = walled(root, *[str(small_bundle) if one == "BUNDLE" else one for one in arguments])
    assert done.returncode == 2
    assert "edgekit[compress]" in done.stderr
    assert "Traceback" not in done.stderr
