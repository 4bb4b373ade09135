"""A Raspberry Pi 4 behind a real sshd, emulated: deploy, verify, profile; a system of 32 bits, a board that hangs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgekit.cli.main import run
from edgekit.devices.targets import open_target
from edgekit.devices.targets.process import Step
from edgekit.devices.userland import PYTHON
from edgekit.errors import SilenceError, TargetError
from tests.pi import shows_what_it_is, tree
from tests.ssh_board import SshBoard

pytestmark = pytest.mark.slow
CPU = "cortex-a72"
NAP = f"exec /usr/bin/python{PYTHON} -c 'import time; time.sleep(600)'"
PYTHON_OF_32_BITS = (
    "exec /usr/bin/python{} -c \"import platform, struct, sys; platform.machine = lambda: 'armv7l'; "
    'struct.calcsize = lambda code: 4; exec(sys.argv[2])" "$@"'
)


def test_a_pi_gets_a_bundle_and_shows_what_it_is(
    pi: SshBoard, pi_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shows_what_it_is(pi, pi_bundle, capsys, "pi4", "aarch64-neon", ["onnxruntime"])


def test_a_32_bit_system_is_refused_and_stays_as_it_is(
    pi: SshBoard, pi_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(pi.root.glob("home/**/*")), tree(pi)
    with pi.with_program("python3", PYTHON_OF_32_BITS.format(PYTHON)):
        assert run(["deploy", str(pi_bundle), "--target", pi.target]) == 2
    told = capsys.readouterr().err
    assert "architecture; found armv7l, Python of 32 bits; expected aarch64 or x86_64, 64 bits" in told
    assert (sorted(pi.root.glob("home/**/*")), tree(pi)) == before


def test_a_board_that_hangs_is_given_up(pi: SshBoard, pi_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(pi.root.glob("home/**/*")), tree(pi)
    with pi.with_program("python3", NAP):
        assert run(["deploy", str(pi_bundle), "--target", pi.target, "--silence", "4"]) == 2
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
