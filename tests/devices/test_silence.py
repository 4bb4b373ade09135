"""A board that hangs: given up in bounded time, with a word about the step, and as it was before."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from edgekit.devices.targets import agent, open_target
from edgekit.devices.targets import deploy as deploying
from edgekit.devices.targets.deploy import deploy
from edgekit.devices.targets.process import Step
from edgekit.devices.targets.target import Local
from edgekit.errors import InputError, SilenceError
from edgekit.progress import Silent
from tests.fake_board import FakeBoard, changed

SOON = Step("waiting", patience=0.0, extra_s=0.3)


@pytest.mark.parametrize("hangs", ["sleep 60", "exec >&-; sleep 60", "echo begun; sleep 60"])
def test_a_command_that_hangs_is_given_up(hangs: str) -> None:
    began = time.monotonic()
    with pytest.raises(SilenceError, match=r"local: waiting; found no word and no progress for 0.3 s") as caught:
        Local().run(hangs, step=SOON)
    assert time.monotonic() - began < 30 and caught.value.exit_code == 2
    assert "--silence 240" in str(caught.value)


def test_a_command_that_takes_no_more_is_given_up() -> None:
    with pytest.raises(SilenceError):
        Local().run("sleep 60", feed=(bytes(1 << 20) for _ in range(1000)), step=SOON)


@pytest.mark.slow
def test_a_slow_command_that_speaks_is_not(tmp_path: Path) -> None:
    heard: list[str] = []
    slow = "for n in 1 2 3 4; do sleep 0.4; echo $n; done; printf end"
    done = Local().run(slow, heard=heard.append, step=Step("slow", 0.0, 1.5))
    assert (done.code, done.out, heard) == (0, b"1\n2\n3\n4\nend", ["1\n", "2\n", "3\n", "4\n", "end"])


@pytest.mark.slow
def test_time_that_the_host_takes_is_not_the_boards() -> None:
    def slowly() -> object:
        for _ in range(3):
            time.sleep(0.4)  # longer than the limit
            yield b"x" * 10

    done = Local().run("cat", feed=slowly(), step=SOON)  # type: ignore[arg-type]
    assert done.out == b"x" * 30


def test_much_both_ways_at_once_and_nobody_waits_forever() -> None:
    block = bytes(range(256)) * 4096
    done = Local(5).run("cat", feed=(block for _ in range(8)))
    assert done.out == block * 8
    assert Local(5).run("exit 3", feed=(block for _ in range(8))).code == 3, "it ended before it had all"


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e9])
def test_limits_that_are_none(seconds: float) -> None:
    with pytest.raises(InputError, match="--silence"):
        open_target("local", seconds)


class Stopping(Silent):
    """Stops the board's program when it says that it verifies, as a kernel that never comes back would."""

    def __init__(self, home: Path) -> None:
        self.home, self.group = str(home), 0

    def say(self, line: str) -> None:
        if "verifying on the board" in line:
            self.group = next(int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if self._is(path))
            os.killpg(self.group, signal.SIGSTOP)

    def left(self) -> bool:
        """Whether the program is still there; a zombie is not."""
        return self._is(Path(f"/proc/{self.group}/cmdline"))

    def _is(self, path: Path) -> bool:
        try:
            words = path.read_text(errors="replace").split("\0")
        except OSError:
            return False
        return words[0].startswith(self.home) and agent.MODULE in words


@pytest.mark.slow
def test_a_board_that_hangs_while_it_verifies_is_as_it_was(
    small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = FakeBoard(tmp_path, monkeypatch)
    assert board.deploy(small_bundle, "--confirm") == 0
    before, new = board.tree(), changed(small_bundle, tmp_path / "new.edge")
    monkeypatch.setattr(deploying, "QUIET", 0.2)
    hangs = Stopping(board.home)
    with open_target(board.target, 20) as target, pytest.raises(SilenceError, match=r"verifying.*progress for 4 s"):
        deploy(new, target, wheels=board.wheels, progress=hangs)
    assert board.tree() == before
    monkeypatch.undo()
    assert not hangs.left(), "nothing of it keeps the board's memory"
