"""``edgekit phone``, and every command of docs/boards/phone.md up to the line where a phone begins."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.main import run
from edgekit.devices.browser.packages import PACKAGES, WebFiles, open_web_files
from edgekit.errors import MissingDependencyError
from tests.cli.conftest import Edgekit

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = re.findall(r"^\$ ([^#\n]+?) *(?:#.*)?$", (ROOT / "docs/boards/phone.md").read_text(), flags=re.MULTILINE)


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files under the engines' names, for commands whose phone never comes."""
    for package in PACKAGES:
        for path in package.files:
            file = tmp_path / "web" / package.name / f"{path}.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
    found = WebFiles(tmp_path / "web")
    monkeypatch.setattr("edgekit.devices.browser.packages.open_web_files", lambda folder, progress: found)


def measured(port: int, token: str) -> None:
    """What a phone would send, by hand."""
    row = {
        "engine": "onnxruntime-web", "file": "models/fp32.onnx", "threads": 1, "length": 16, "tokens": 16, "load_ms": 1,
        "first_ms": 1, "warmup": 0, "warmup_stable": False,
        "parts_ms": {part: [1.0, 2.0] for part in ("preprocess", "model", "postprocess")},
    }  # fmt: skip
    environment = {"user_agent": "a test", "isolated": False, "automated": True, "hidden": False, "clock_ms": 0.1}
    body = {"rows": [row], "checks": [], "failed": [], "environment": environment}
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(f"http://127.0.0.1:{port}/session", token.encode(), timeout=20).close()
    opener.open(f"http://127.0.0.1:{port}/profile", json.dumps(body).encode(), timeout=20).close()


def test_the_first_profile_ends_it(
    edgekit: Edgekit, small_bundle: Path, stand_ins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.cli import phone

    shown = threading.Event()
    seen: list[str] = []

    def show(address: str, fingerprint: str) -> None:
        seen.append(address)
        shown.set()

    def visit() -> None:
        assert shown.wait(60)
        origin, _, token = seen[0].partition("/#")
        measured(int(origin.rpartition(":")[2]), token)

    monkeypatch.setattr(phone, "_show", show)
    visitor = threading.Thread(target=visit)
    visitor.start()
    done = edgekit("phone", small_bundle, "--once", "--host", "127.0.0.1", "--port", "0", "-o", tmp_path / "mine.json")
    visitor.join()
    assert done.code == 0 and done.out == f"{tmp_path / 'mine.json'}\n"
    assert json.loads((tmp_path / "mine.json").read_text())["target"] == "browser"
    assert "sent, MB" in done.err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--file", "models/none.onnx"), "models/none.onnx"),
        (("--threads", "two"), "--threads"),
        (("--lengths", "100000"), "--lengths"),
        (("--host", "203.0.113.9"), "203.0.113.9"),
    ],
)
def test_what_is_wrong_is_one_line(
    edgekit: Edgekit, small_bundle: Path, stand_ins: None, flags: tuple[str, ...], told: str
) -> None:
    done = edgekit("phone", small_bundle, "--port", "0", "--host", "127.0.0.1", *flags)
    assert done.code == 2 and told in done.error


def test_engines_that_are_not_there(edgekit: Edgekit, small_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    done = edgekit("phone", small_bundle, "--web-engines", tmp_path)
    assert done.code == 2 and "npm pack onnxruntime-web@" in done.error


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_code_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.cli import phone

    shown = {}
    for address in ("http://192.168.1.5:8765/#abc", "https://192.168.1.5:8765/#abd"):
        monkeypatch.setattr(sys, "stderr", Terminal())
        phone._show(address, "AB:CD" if "https" in address else "")
        shown[address] = sys.stderr.getvalue()  # type: ignore[attr-defined]
        assert address in shown[address] and "works once" in shown[address]
    codes = [text.partition("Open on")[0] for text in shown.values()]
    assert all(code.count("\n") > 10 and "\u2580" in code for code in codes) and codes[0] != codes[1]
    assert "AB:CD" in shown[address] and "AB:CD" not in shown["http://192.168.1.5:8765/#abc"]


@contextmanager
def started(arguments: list[str], folder: Path) -> Iterator[str]:
    """An ``edgekit`` in ``folder``, until it has shown its address. Gives its stderr so far; ends as with Ctrl-C."""
    # A shell that starts the tests in the background lets them, and all that they start, ignore Ctrl-C.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "edgekit", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, text=True, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        yield "".join(lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 6 and sum(one.startswith("edgekit phone") for one in COMMANDS) >= 4


@pytest.mark.slow
def test_commands_of_the_page(small_bundle: Path, tmp_path: Path) -> None:
    try:
        real = open_web_files()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    shutil.copytree(small_bundle, tmp_path / "sentiment.edge")
    for package in PACKAGES:  # as `npm pack` and unpacking leave them
        for path in package.files:
            (tmp_path / "engines" / package.name / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(real.root / package.name / path, tmp_path / "engines" / package.name / path)
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        if program == "npm":
            assert arguments[:2] == ["pack", "--pack-destination"]
            assert set(arguments[3:]) == {package.spec for package in PACKAGES}
        elif program == "adb":
            assert arguments == ["reverse", "tcp:8765", "tcp:8765"]  # here the hardware begins
        elif arguments[0] == "phone":
            given = [*arguments, "--port", "0", *(() if "--host" in arguments else ("--host", "127.0.0.1"))]
            with started(given, tmp_path) as told:
                address = re.search(r"(https?)://127\.0\.0\.1:\d+/#\S{24}", told)
                assert address and (address[1] == "https") == ("--https" in arguments), told
                assert ("SHA-256" in told) == ("--https" in arguments)
        else:
            assert program == "edgekit" and run(arguments) == 0, command
