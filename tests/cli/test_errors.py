"""What becomes of every kind of mistake: one line on stderr, the right code, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.cli import main


def test_usage_is_one_line_and_two(edgekit) -> None:
    for arguments in (["nope"], ["run"], ["profile", "x", "--runs", "many"], ["doctor", "--format", "xml"]):
        done = edgekit(*arguments)
        assert done.code == 2
        assert "--help" in done.error
        assert done.out == ""


def test_no_arguments_show_the_help(edgekit) -> None:
    done = edgekit()
    assert done.code == 2
    assert "compress" in done.out + done.err


@pytest.mark.parametrize(
    "verb", ["compress", "eval", "profile", "run", "verify", "report", "slots", "devices", "doctor"]
)
def test_every_verb_has_help(edgekit, verb: str) -> None:
    done = edgekit(verb, "--help")
    assert done.code == 0
    assert "Usage: edgekit" in done.out


def test_version(edgekit) -> None:
    assert edgekit("--version").out.startswith("edgekit ")


@pytest.mark.parametrize("verb", ["profile", "run", "verify", "report"])
def test_a_bundle_that_is_not_there(edgekit, tmp_path: Path, verb: str) -> None:
    path = tmp_path / "gone.edge"
    done = edgekit(verb, path, *(["text"] if verb == "run" else []))
    assert done.code == 2
    assert "gone.edge" in done.error
    assert done.out == ""


def test_a_folder_that_is_no_bundle(edgekit, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    done = edgekit("run", tmp_path, "text")
    assert done.code == 2
    assert "manifest.json" in done.error


def test_unexpected_failures_are_one_and_show_a_traceback_on_demand(edgekit, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> int:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(main, "app", broken)
    done = edgekit("doctor")
    assert done.code == 1
    assert "ZeroDivisionError: a bug of ours" in done.error
    assert "--debug" in done.error
    assert "Traceback" in edgekit("doctor", "--debug").err
    monkeypatch.setenv("EDGEKIT_DEBUG", "1")
    assert "Traceback" in edgekit("doctor").err


def test_a_package_that_is_missing(edgekit, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(**_: object) -> int:
        raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")

    monkeypatch.setattr(main, "app", without)
    done = edgekit("compress")
    assert done.code == 2
    assert "package torch" in done.error
    assert "pip install 'edgekit[compress]'" in done.error


BLOCKED = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("typer", "rich"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Wall())
from edgekit.__main__ import main
sys.exit(main())
"""


def test_without_typer_the_command_says_what_to_install(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 2
    assert "edgekit[cli]" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupt_is_130_without_a_traceback(root: Path, small_bundle: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "edgekit", "profile", str(small_bundle), "--runs", "100000", "--lengths", "8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    until = time.monotonic() + 120
    while not children.read_text() and time.monotonic() < until:  # it measures in a process of its own
        time.sleep(0.1)
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
