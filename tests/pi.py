"""What both emulated Pis go through: deploy, verify, an answer, a profile; and how their connection is cut."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import open_bundle
from edgekit.cli.main import run
from edgekit.devices.targets import open_target
from edgekit.devices.targets.deploy import deploy
from edgekit.devices.targets.measure import profile
from edgekit.errors import TargetError
from edgekit.progress import Silent
from edgekit.runtimes.check import golden_of
from tests.ssh_board import SshBoard

FILES = ["models/w8a8.onnx", "models/fp32.onnx"]
QUICK = {"files": FILES, "lengths": [16], "runs": 1, "warmup": 0, "seconds": 0.0}  # no time of it counts


def tree(board: SshBoard, folder: str = "home/pi/edgekit") -> dict[str, str]:
    """What runs there: state, slots and links, with the beginnings of their files."""
    apps = board.root / folder / "apps"
    found = {}
    for path in sorted(apps.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(apps))] = os.readlink(path)
        elif path.is_file() and path.name != ".lock":
            found[str(path.relative_to(apps))] = path.read_bytes()[:4000].hex()
    return found


class Cutting(Silent):
    """Cuts the connection when it hears ``word``, as a label of a transfer that has begun, or as a line."""

    def __init__(self, board: SshBoard, word: str) -> None:
        self.board, self.word, self.label, self.pieces = board, word, "", 0

    def start(self, label: str, total: int) -> int:
        self.label = label
        return 0

    def advance(self, handle: int, steps: int = 1, note: str = "") -> None:
        self.pieces += self.word in self.label
        if self.pieces == 3:
            self.board.cut()

    def say(self, line: str) -> None:
        if self.word in line:
            self.board.cut()


def profiled(board: SshBoard, bundle: Path, engines: list[str]) -> dict[str, Any]:
    """The quick profile. qemu-user hung once in a dozen runs: then the connection is cut, and the board asked again."""
    for last in (False, True):
        watch = threading.Timer(200, board.cut)
        watch.start()
        try:
            with open_target(board.target) as target:
                return profile(bundle, target, QUICK, engines=engines)
        except TargetError:
            if last:
                raise
        finally:
            watch.cancel()
    raise AssertionError


def shows_what_it_is(
    pi: SshBoard, bundle: Path, capsys: pytest.CaptureFixture[str], name: str, isa: str, engines: list[str]
) -> None:
    """A deploy that is cut off and done again, an answer, and a profile of the board ``name`` that has ``isa``."""
    with open_target(pi.target) as target, pytest.raises(TargetError, match="goes on where it was"):
        deploy(bundle, target, engines=engines, progress=Cutting(pi, "pi.edge to"))
    assert tree(pi) == {}, "cut in the middle of the files: nothing runs there yet"

    flags = ["--engine", ",".join(engines), "--confirm", "--format", "json"]
    assert run(["deploy", str(bundle), "--target", pi.target, *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check for check in told["checks"]}
    assert told["ok"] and told["facts"]["machine"] == "aarch64" and told["state"]["current"] == "000001.edge"
    for model in open_bundle(bundle).manifest.models:
        check = checks[f"outputs {model.path}"]
        assert check["ok"] and (isa in check["detail"]) is (model.engine in engines), check

    golden = golden_of(open_bundle(bundle))
    assert golden is not None
    program = (
        "import json, sys; from edgekit.runtimes.slots import Slots\n"
        "print(json.dumps(Slots(sys.argv[1]).load(engine='onnxruntime').run(sys.argv[2]).labels))"
    )
    with open_target(pi.target) as target:
        done = target.run(f"{told['python']} -c \"{program}\" {told['slots']} '{golden.texts[0]}'")
        assert json.loads(done.out) and done.code == 0, done.err
    current = tree(pi)
    found = profiled(pi, bundle, engines)
    assert (found["basis"], found["board"], found["target"]) == ("emulated", name, pi.target)
    assert found["environment"]["emulator"].startswith("qemu-aarch64") and found["environment"]["isa"] == isa
    assert found["verified"]["ok"] and found["environment"]["temperature_c"] == 61.342
    assert {row["file"] for row in found["rows"]} == set(FILES) and all(row["rss_mb"] > 0 for row in found["rows"])
    times = {key: row[key] for row in found["rows"] for key in row if key.endswith("_ms")}
    assert times and not any(times.values()), "emulated: no timing"
    assert found["choice"]["why"] == "emulated: no timing"
    assert tree(pi) == current, "a profile changes nothing that runs"
