"""Whatever call the power goes before, and whatever the disk kept of what was not synced: a bundle runs."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import EdgekitWarning, InputError
from edgekit.runtimes import Slots
from tests.runtimes import tiny
from tests.runtimes.slots.conftest import Pair
from tests.runtimes.slots.disk import Disk, Full, PowerCut, after_power_cut

Act = Callable[[Slots, Pair], object]
# What changes the disk, and from which state on: 0 the old bundle alone, 1 a second one was confirmed, so that
# something must go first, 2 the new one is installed and not confirmed.
ACTS: dict[str, tuple[int, Act]] = {
    "install": (0, lambda slots, pair: slots.install(pair.new)),
    "install over an older one": (1, lambda slots, pair: slots.install(pair.new)),
    "load": (2, lambda slots, pair: slots.load(threads=1)),
    "confirm": (2, lambda slots, pair: slots.confirm()),
    "rollback": (2, lambda slots, pair: slots.rollback()),
}


@pytest.fixture(scope="module")
def bases(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Disks in the three states, each with a folder of slots."""
    made = []
    for number, bundles in enumerate(([pair.old], [pair.new, pair.old], [pair.old, pair.new])):
        disk = tmp_path_factory.mktemp(f"base{number}")
        slots = Slots(disk / "slots")
        for bundle in bundles:
            slots.install(bundle)
            if not (number == 2 and bundle == pair.new):
                slots.confirm()
        made.append(disk)
    return made


def runs(folder: Path, pair: Pair) -> str:
    """Which bundle answers, exactly as it should."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgekitWarning)
        found = Slots(folder).load(threads=1).logits(tiny.TEXTS)
    return next(name for name, answer in pair.answers.items() if np.array_equal(found, answer))


def cuts(base: Path, act: Act, pair: Pair, work: Path) -> Iterator[Disk]:
    """The disk after the power went before the first call, the second, and so on to the last."""
    for cut in range(1000):
        root = shutil.copytree(base, work / f"disk{cut}")
        disk = Disk(root, cut)
        try:
            act(Slots(root / "slots", files=disk), pair)
        except PowerCut:
            yield disk
        else:
            return
        finally:
            shutil.rmtree(root)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTS)
def test_power_cut_before_every_call_and_unsynced_writes_are_lost(
    name: str, bases: list[Path], pair: Pair, tmp_path: Path
) -> None:
    number, act = ACTS[name]
    seen = []
    for disk in cuts(bases[number], act, pair, tmp_path):
        after_power_cut(disk.tree, tmp_path / "after", None)
        seen.append(runs(tmp_path / "after" / "slots", pair))
        shutil.rmtree(tmp_path / "after")
    assert len(seen) >= 4
    if name.startswith("install"):
        assert len(seen) >= 20
        assert seen[0] == "old" and seen == sorted(seen, reverse=True), "the switch is one step"


@pytest.mark.slow
def test_power_cut_in_the_first_installation(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    seen = []
    for disk in cuts(tmp_path / "base", lambda slots, pair: slots.install(pair.new), pair, tmp_path):
        after_power_cut(disk.tree, tmp_path / "after", None)
        slots = Slots(tmp_path / "after" / "slots")
        seen.append(slots.status() is not None)
        if not seen[-1]:
            slots.install(pair.new)
        assert runs(slots.folder, pair) == "new"
        shutil.rmtree(tmp_path / "after")
    assert len(seen) >= 20 and not seen[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTS)
def test_power_cut_and_unsynced_writes_are_lost_in_part(
    name: str, bases: list[Path], pair: Pair, tmp_path: Path
) -> None:
    number, act = ACTS[name]
    count = 0
    for disk in cuts(bases[number], act, pair, tmp_path):
        for seed in range(6):
            after_power_cut(disk.tree, tmp_path / "after", random.Random(100 * disk.calls + seed))
            folder = tmp_path / "after" / "slots"
            assert runs(folder, pair) in ("old", "new")
            count += 1
            if seed == 0 and disk.calls % 4 == 0:  # and what is left is no hindrance to the next installation
                slots = Slots(folder)
                slots.confirm()
                slots.install(pair.new)
                assert runs(folder, pair) == "new"
            shutil.rmtree(tmp_path / "after")
    assert count >= 24


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_or_failing_disk_leaves_what_runs(code: int, bases: list[Path], pair: Pair, tmp_path: Path) -> None:
    failed = 0
    for since in range(1000):
        root = shutil.copytree(bases[0], tmp_path / f"full{since}")
        try:
            Slots(root / "slots", files=Full(since, code)).install(pair.new)
        except InputError as error:
            told = str(error)
        else:
            break
        assert os.strerror(code) in told
        failed += 1
        # The last sync of the folder may fail when the new name is already there: either is whole.
        assert runs(root / "slots", pair) in ("old", "new")
        assert not list((root / "slots").glob(".*.tmp"))
        shutil.rmtree(root)
    assert failed >= 20


def test_a_boot_needs_no_room_on_the_disk(bases: list[Path], pair: Pair, tmp_path: Path) -> None:
    root = shutil.copytree(bases[2], tmp_path / "full")
    slots = Slots(root / "slots", files=Full(0))
    with pytest.warns(EdgekitWarning, match="cannot be written"):
        assert np.array_equal(slots.load(threads=1).logits(tiny.TEXTS), pair.answers["new"])
    with pytest.raises(InputError, match="cannot be written"):
        slots.confirm()


def test_a_real_file_system_that_is_full(bases: list[Path], pair: Pair, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    disk.mkdir()
    pages = sum(-(-one.stat().st_size // 4096) for one in pair.old.rglob("*") if one.is_file())
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={4 * (pages + pages // 2 + 2)}k", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(bases[0] / "slots", disk / "slots")
        with pytest.raises(InputError, match="No space left"):
            Slots(disk / "slots").install(pair.new)
        assert runs(disk / "slots", pair) == "old"
        assert sorted(one.name for one in (disk / "slots").glob("*.edge")) == ["000001.edge"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


KILLED = """
import os, shutil, sys
from pathlib import Path
import onnxruntime  # loaded once; no session is made before the fork
from edgekit.runtimes import Slots
from tests.runtimes.slots.disk import Dying
base, bundle, work = map(Path, sys.argv[1:])
for cut in range(1000):
    root = shutil.copytree(base, work / str(cut))
    child = os.fork()
    if child == 0:
        Slots(root / "slots", files=Dying(cut)).install(bundle)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9), code
    if code == 0:
        break
"""


def test_an_installer_that_is_killed_before_every_call(bases: list[Path], pair: Pair, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(bases[0]), str(pair.new), str(tmp_path)]
    subprocess.run(command, check=True, timeout=200)
    disks = sorted(tmp_path.iterdir(), key=lambda one: int(one.name))
    assert len(disks) >= 20
    seen = [runs(disk / "slots", pair) for disk in disks]
    assert seen[0] == "old" and seen[-1] == "new" and seen == sorted(seen, reverse=True)


INSTALL = "import sys; from edgekit.runtimes import Slots; Slots(sys.argv[1]).install(sys.argv[2])"


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "rename", "mkdir", "unlink"])
def test_an_installer_that_is_killed_in_the_kernel(call: str, bases: list[Path], pair: Pair, tmp_path: Path) -> None:
    """The kernel's own calls, so that none that changes the disk is missed by our layer."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    probe = subprocess.run(
        ["strace", "-f", "-o", str(tmp_path / "probe"), "true"], check=False, capture_output=True, text=True
    )
    if probe.returncode:
        pytest.skip(f"strace cannot trace here: {probe.stderr.strip()[-200:]}")
    killed = 0
    for when in range(1, 100):
        root = shutil.copytree(bases[1], tmp_path / f"disk{when}")
        inject = f"inject={call}:signal=SIGKILL:when={when}"
        command = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"trace={call}", "-e", inject]
        done = subprocess.run(
            [*command, sys.executable, "-c", INSTALL, str(root / "slots"), str(pair.new)],
            check=False,
            capture_output=True,
            timeout=120,
        )
        if done.returncode == 0:
            break
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr.decode()
        killed += 1
        assert runs(root / "slots", pair) in ("old", "new")
        shutil.rmtree(root)
    assert killed >= 2
    assert runs(root / "slots", pair) == "new"
