"""A Raspberry Pi 5 behind a real sshd, emulated: deploy, verify, profile, and all that goes wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.main import run
from edgekit.devices.targets import deploy as deploying
from edgekit.devices.targets import open_target, runtime
from edgekit.devices.targets.deploy import deploy
from edgekit.devices.targets.measure import profile
from edgekit.errors import HostKeyError, TargetError
from edgekit.progress import Silent
from tests import ssh_board
from tests.fake_board import changed
from tests.pi import FILES, QUICK, Cutting, shows_what_it_is
from tests.ssh_board import SshBoard

pytestmark = pytest.mark.slow
CPU = "cortex-a76"


def test_a_pi_gets_a_bundle_and_shows_what_it_is(
    pi: SshBoard, pi_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shows_what_it_is(pi, pi_bundle, capsys, "pi5", "aarch64-dotprod", ["onnxruntime", "litert"])


def test_cut_off_at_the_switch_the_board_runs_one_of_both(pi: SshBoard, pi_bundle: Path, tmp_path: Path) -> None:
    new = changed(pi_bundle, tmp_path / "new.edge")
    with open_target(pi.target) as target, pytest.raises(TargetError):
        deploy(new, target, engines=["onnxruntime"], progress=Cutting(pi, "switching"))
    with open_target(pi.target) as target:
        found = deploy(new, target, engines=["onnxruntime"], confirm=True)
        assert found.ok and found.state is not None and found.state["current"] == "000002.edge"
        assert found.state["fallback"] == "000001.edge", "whatever the cut left, both are there, whole"


def test_a_full_disk_is_told_before_and_while(pi: SshBoard, pi_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_target(pi.target) as target:
        with pytest.raises(TargetError, match=r"space for .* MB free; expected"):
            deploy(pi_bundle, target, folder=f"{ssh_board.SMALL}/edgekit")
        for module in (deploying, runtime):
            monkeypatch.setattr(module, "need", lambda *given: None)
        with pytest.raises(TargetError, match="No space left on device"):
            deploy(pi_bundle, target, folder=f"{ssh_board.SMALL}/edgekit")
        done = target.run(f"ls {ssh_board.SMALL}/edgekit/apps")
    assert done.code != 0, "nothing was made to run"


def test_a_changed_host_key_stops_everything(pi: SshBoard, pi_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        pi.trust("other")
        with open_target(pi.target) as target, pytest.raises(HostKeyError, match="do not go on"):
            deploy(pi_bundle, target)
        assert run(["deploy", str(pi_bundle), "--target", pi.target]) == 2
        assert "its host key has changed" in capsys.readouterr().err
        pi.trust()
        with open_target(pi.target) as target, pytest.raises(HostKeyError, match="compare the fingerprint"):
            target.run("true")
    finally:
        pi.trust("host")


def test_telemetry_that_is_missing_or_throttled(pi: SshBoard, pi_bundle: Path) -> None:
    said: list[str] = []

    class Listening(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    flags = pi.root / "sys/devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    flags.write_text("50005\n")
    few: dict[str, Any] = {**QUICK, "files": FILES[:1], "runs": 1}
    with open_target(pi.target) as target:
        found = profile(pi_bundle, target, few, engines=["onnxruntime"], progress=Listening())
        assert found["environment"]["throttled"] == ["under_voltage", "throttled"]
        assert any("under_voltage, throttled" in line for line in said)
        flags.unlink()
        subprocess.run(["rm", "-r", pi.root / "sys/class"], check=True)
        found = profile(pi_bundle, target, few, engines=["onnxruntime"])
        assert found["environment"]["throttled"] is None and found["environment"]["temperature_c"] is None
