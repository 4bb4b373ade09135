"""A Raspberry Pi 4 and a Pi 5 behind a real sshd, emulated: deploy, verify, profile, and all that goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import open_bundle
from edgekit.cli.main import run
from edgekit.devices import instructions
from edgekit.devices.targets import deploy as deploying
from edgekit.devices.targets import open_target, runtime
from edgekit.devices.targets.deploy import deploy
from edgekit.devices.targets.measure import profile
from edgekit.devices.targets.process import Step
from edgekit.devices.userland import PYTHON
from edgekit.errors import HostKeyError, MissingDependencyError, SilenceError, TargetError
from edgekit.progress import Silent
from edgekit.runtimes.check import golden_of
from tests import ssh_board
from tests.arm_bundles import write_bundle
from tests.fake_board import changed
from tests.sharing import once
from tests.ssh_board import SshBoard

pytestmark = pytest.mark.slow
BOARDS = {"cortex-a72": ("pi4", "aarch64-neon"), "cortex-a76": ("pi5", "aarch64-dotprod")}
ENGINES = {"cortex-a72": ["onnxruntime"], "cortex-a76": ["onnxruntime", "litert"]}
FILES = ["models/w8a8.onnx", "models/fp32.onnx"]
QUICK = {"files": FILES, "lengths": [16], "runs": 1, "warmup": 0, "seconds": 0.0}  # no time of it counts


@pytest.fixture(scope="module")
def bundle(tiny_encoder: Path, tiny_litert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32 and INT8 for onnxruntime and LiteRT."""
    return once(tmp_path_factory, "pi", lambda work: write_bundle(tiny_encoder, tiny_litert, work, "pi")) / "pi.edge"


@pytest.fixture(scope="module", params=list(BOARDS))
def pi(request: pytest.FixtureRequest, arm_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshBoard]:
    """A board with nothing of edgekit's on it; ssh on the PATH finds it."""
    if reason := ssh_board.reasons():
        pytest.skip(reason)
    userland = next((arm_cache / "userland").iterdir())
    with (
        pytest.MonkeyPatch.context() as patch,
        SshBoard(tmp_path_factory.mktemp("board"), userland, request.param) as board,
    ):
        patch.setenv("EDGEKIT_CACHE", str(arm_cache))
        patch.setenv("PATH", f"{board.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        yield board


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


def test_a_pi_gets_a_bundle_and_shows_what_it_is(
    pi: SshBoard, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (name, isa), engines = BOARDS[pi.cpu], ENGINES[pi.cpu]
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


@pytest.mark.parametrize("pi", ["cortex-a76"], indirect=True)
def test_cut_off_at_the_switch_the_board_runs_one_of_both(pi: SshBoard, bundle: Path, tmp_path: Path) -> None:
    new = changed(bundle, tmp_path / "new.edge")
    with open_target(pi.target) as target, pytest.raises(TargetError):
        deploy(new, target, engines=["onnxruntime"], progress=Cutting(pi, "switching"))
    with open_target(pi.target) as target:
        found = deploy(new, target, engines=["onnxruntime"], confirm=True)
        assert found.ok and found.state is not None and found.state["current"] == "000002.edge"
        assert found.state["fallback"] == "000001.edge", "whatever the cut left, both are there, whole"


@pytest.mark.parametrize("pi", ["cortex-a76"], indirect=True)
def test_a_full_disk_is_told_before_and_while(pi: SshBoard, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_target(pi.target) as target:
        with pytest.raises(TargetError, match=r"space for .* MB free; expected"):
            deploy(bundle, target, folder=f"{ssh_board.SMALL}/edgekit")
        for module in (deploying, runtime):
            monkeypatch.setattr(module, "need", lambda *given: None)
        with pytest.raises(TargetError, match="No space left on device"):
            deploy(bundle, target, folder=f"{ssh_board.SMALL}/edgekit")
        done = target.run(f"ls {ssh_board.SMALL}/edgekit/apps")
    assert done.code != 0, "nothing was made to run"


@pytest.mark.parametrize("pi", ["cortex-a76"], indirect=True)
def test_a_changed_host_key_stops_everything(pi: SshBoard, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        pi.trust("other")
        with open_target(pi.target) as target, pytest.raises(HostKeyError, match="do not go on"):
            deploy(bundle, target)
        assert run(["deploy", str(bundle), "--target", pi.target]) == 2
        assert "its host key has changed" in capsys.readouterr().err
        pi.trust()
        with open_target(pi.target) as target, pytest.raises(HostKeyError, match="compare the fingerprint"):
            target.run("true")
    finally:
        pi.trust("host")


NAP = f"exec /usr/bin/python{PYTHON} -c 'import time; time.sleep(600)'"
PYTHON_OF_32_BITS = (
    "exec /usr/bin/python{} -c \"import platform, struct, sys; platform.machine = lambda: 'armv7l'; "
    'struct.calcsize = lambda code: 4; exec(sys.argv[2])" "$@"'
)


@pytest.mark.parametrize("pi", ["cortex-a72"], indirect=True)
def test_a_32_bit_system_is_refused_and_stays_as_it_is(
    pi: SshBoard, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(pi.root.glob("home/**/*")), tree(pi)
    with pi.with_program("python3", PYTHON_OF_32_BITS.format(PYTHON)):
        assert run(["deploy", str(bundle), "--target", pi.target]) == 2
    told = capsys.readouterr().err
    assert "architecture; found armv7l, Python of 32 bits; expected aarch64 or x86_64, 64 bits" in told
    assert (sorted(pi.root.glob("home/**/*")), tree(pi)) == before


@pytest.mark.parametrize("pi", ["cortex-a72"], indirect=True)
def test_a_board_that_hangs_is_given_up(pi: SshBoard, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(pi.root.glob("home/**/*")), tree(pi)
    with pi.with_program("python3", NAP):
        assert run(["deploy", str(bundle), "--target", pi.target, "--silence", "4"]) == 2
    assert "looking at the board; found no word and no progress for 4 s" in capsys.readouterr().err
    with open_target(pi.target) as target:
        assert target.run("echo there").out == b"there\n"
        with pytest.raises(SilenceError, match="a nap; found no word and no progress for 2 s"):
            target.run(f"echo begun; {NAP}", step=Step("a nap", 0.0, 2.0))
        assert target.run("echo there").out == b"there\n", "what hangs does not take the connection with it"
        watch = threading.Timer(1, pi.freeze)
        watch.start()
        try:
            with pytest.raises(TargetError, match="expected a connection that holds") as caught:
                target.run(NAP)
        finally:
            watch.cancel()
            pi.cut()
        assert not isinstance(caught.value, SilenceError), "ssh itself sees that nobody answers, long before the limit"
    assert (sorted(pi.root.glob("home/**/*")), tree(pi)) == before


@pytest.mark.parametrize("pi", ["cortex-a76"], indirect=True)
def test_telemetry_that_is_missing_or_throttled(pi: SshBoard, bundle: Path) -> None:
    said: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    flags = pi.root / "sys/devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    flags.write_text("50005\n")
    few: dict[str, Any] = {**QUICK, "files": FILES[:1], "runs": 1}
    with open_target(pi.target) as target:
        found = profile(bundle, target, few, engines=["onnxruntime"], progress=Listening())
        assert found["environment"]["throttled"] == ["under_voltage", "throttled"]
        assert any("under_voltage, throttled" in line for line in said)
        flags.unlink()
        subprocess.run(["rm", "-r", pi.root / "sys/class"], check=True)
        found = profile(bundle, target, few, engines=["onnxruntime"])
        assert found["environment"]["throttled"] is None and found["environment"]["temperature_c"] is None


def test_int8_takes_fewer_instructions_where_there_are_dot_products(
    arm_cache: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(arm_cache))
    try:
        instructions.emulator()
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert run(["profile", str(bundle), "--cpu", "cortex-a76", "--format", "json"]) == 0
    pi5 = json.loads(capsys.readouterr().out)
    assert (pi5["basis"], pi5["board"], pi5["failed"], pi5["verified"]["ok"]) == ("emulated", "pi5", [], True)
    assert not any(row[key] for row in pi5["rows"] for key in row if key.endswith("_ms"))
    pi4 = [one.to_dict() for one in instructions.count(bundle, ["cortex-a72"])]
    taken = {}
    for cpu, rows in (("a72", pi4), ("a76", pi5["rows"])):
        for row in rows:
            taken[cpu, row["file"]] = row["instructions_m"]
            assert bool(row["dot_products_m"]) is (cpu == "a76" and row["precision"] == "w8a8"), row
    assert len(taken) == 8
    saved = {
        (cpu, kind): taken[cpu, f"models/fp32.{kind}"] / taken[cpu, f"models/w8a8.{kind}"]
        for cpu in ("a72", "a76")
        for kind in ("onnx", "tflite")
    }
    assert max(saved["a76", "onnx"], saved["a76", "tflite"]) >= 2.2, saved
    assert saved["a76", "onnx"] > saved["a72", "onnx"], saved
