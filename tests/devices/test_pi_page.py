"""docs/boards/raspberry-pi.md: every command runs, against a scripted ssh that leads back to this machine."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bundle import open_bundle, write
from edgekit.cli.main import run
from tests.conftest import ROOT
from tests.fake_board import FakeBoard

PAGE = (ROOT / "docs/boards/raspberry-pi.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def place(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeBoard]:
    """A folder with the bundle and the program of the page, and the board, which keeps what was done to it."""
    folder = tmp_path_factory.mktemp("page")
    opened = open_bundle(small_bundle)
    files: dict[str, Path | bytes] = {entry.path: small_bundle / entry.path for entry in opened.manifest.files}
    (folder / "build").mkdir()
    write(folder / "build/sentiment.edge", replace(opened.manifest, name="sentiment"), files)
    write(folder / "second.edge", replace(opened.manifest, name="sentiment", release=2), files)
    for name, program in zip(
        ("answer.py", "back.py"), re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL), strict=True
    ):
        (folder / name).write_text(program)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield FakeBoard(folder, patch)


@pytest.mark.slow
def test_the_page_from_top_to_bottom(place: FakeBoard, capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for command in COMMANDS:
        if "--cpu" in command:
            continue  # under qemu: tests/devices/test_emulate.py
        if command.startswith("ssh "):
            done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (command, done.stderr)
            said[command] = done.stdout
            continue
        arguments = shlex.split(command)[1:]
        if arguments[0] == "compress":
            arguments.append("--dry-run")  # tests/compress/test_device.py runs one
        if arguments[0] in ("deploy", "profile"):
            arguments += ["--wheels", str(place.wheels)]
        if arguments[0] == "profile":
            arguments += ["--runs", "5", "--warmup", "1", "--lengths", "16"]
        assert run(arguments) == 0, command
        said[command] = capsys.readouterr().out
        if command == COMMANDS[2]:  # "Again, after a change"
            shutil.rmtree("build/sentiment.edge")
            Path("second.edge").rename("build/sentiment.edge")
    assert len(said) == len(COMMANDS) - 1
    answered = next(text for command, text in said.items() if "answer.py" in command)
    assert answered.strip() in ("['negative']", "['neutral']", "['positive']")
    state = json.loads((place.home / "edgekit/apps/sentiment/state.json").read_text())
    assert state["current"] == "000001.edge" and "back from 000002.edge" in state["note"]
