"""A Raspberry Pi behind a real sshd on loopback: an arm64 userland whose programs run under qemu-user.

All that takes privileges happens in namespaces of the sshd and of each session, so nothing is left when they end:
mounts, the user ``pi``, the registration of qemu with binfmt_misc (in a user namespace: Linux 6.7 and later).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.devices.emulate import PROCESSORS, qemu
from edgekit.devices.userland import PYTHON

USER = "pi"
MODELS = {
    "cortex-a72": ("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi,4-model-b", 1_800_000),
    "cortex-a76": ("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", 2_400_000),
}
SMALL = "/small"  # a disk of its own, of
SMALL_MB = 96
_ELF = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_ENTER = """#!/bin/sh
# A session: its own binfmt_misc with qemu in it, then the board as its root. Called as a login shell, -c COMMAND.
exec env -i unshare --user --map-root-user --mount sh -c '
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && cat {folder}/binfmt > /proc/sys/fs/binfmt_misc/register &&
  exec env -i HOME=/home/pi PATH=/usr/local/bin:/bin QEMU_CPU={cpu} LANG=C.UTF-8 \\
    /usr/sbin/chroot {root} /bin/sh -c "cd && eval \\"\\$1\\"" sh "$1"' enter "$2"
"""
_SERVE = """set -e
mount --make-rprivate /
mount --bind {folder}/passwd /etc/passwd
mount -t tmpfs none /run && mkdir -m 755 /run/sshd
for part in usr lib; do mount --bind {userland}/$part {root}/$part; done
mount --rbind /proc {root}/proc
mount --bind {folder}/cpuinfo {root}/proc/cpuinfo
mount --rbind /dev {root}/dev
mount -t tmpfs -o size={small}m none {root}{at}
exec /usr/sbin/sshd -D -e -f {folder}/sshd_config
"""


class SshBoard:
    """The board ``cpu``; a context manager. ``root``: its files as they are from outside."""

    def __init__(self, folder: Path, userland: Path, cpu: str) -> None:
        self.folder, self.userland, self.cpu, self.root = folder, userland, cpu, folder / "root"
        self.port = _free_port()
        self.target = f"ssh://{USER}@board:{self.port}"
        self._fill()

    def _fill(self) -> None:
        folder, root, places = self.folder, self.root, {"folder": self.folder, "root": self.root, "cpu": self.cpu}
        for name in ("usr", "lib", "proc", "dev", "tmp", "etc", "bin", "usr/local/bin", f"home/{USER}", SMALL[1:]):
            (root / name).mkdir(parents=True, exist_ok=True)
        busybox = next(self.userland.rglob("bin/busybox"))
        shutil.copy(busybox, root / "bin/busybox")
        for name in ("sh", "uname", "cat", "test", "df", "rm", "ls", "mkdir", "ln", "readlink", "sleep"):
            (root / "bin" / name).symlink_to("busybox")
        (root / "bin/python3").symlink_to(f"/usr/bin/python{PYTHON}")
        model, compatible, clock = MODELS[self.cpu]
        tree = root / "sys/firmware/devicetree/base"
        tree.mkdir(parents=True)
        (tree / "model").write_text(f"{model}\0")
        (tree / "compatible").write_text(f"{compatible}\0brcm,bcm2711\0")
        self._sensors(clock)
        entry = (
            "processor\t: {n}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
            "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: {revision}\n\n"
        )
        facts = vars(PROCESSORS[self.cpu])
        (folder / "cpuinfo").write_text("".join(entry.format(n=n, **facts) for n in range(os.cpu_count() or 1)))
        static = shutil.which("qemu-aarch64-static") or qemu()
        (folder / "binfmt").write_text(f":edgekit-aarch64:M::{_ELF}:{_MASK}:{static}:F")
        (folder / "enter").write_text(_ENTER.format(**places))
        (folder / "enter").chmod(0o755)
        (folder / "passwd").write_text(f"{Path('/etc/passwd').read_text()}{USER}:*:0:0::/:{folder}/enter\n")
        for name in ("host", "id", "other"):
            self._key(name)
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/id.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin yes\nStrictModes no\nAllowUsers {USER}\nPrintMotd no\n"
        )
        self.trust("host")
        lines = ["Host board", "HostName 127.0.0.1", "HostKeyAlias board", f"IdentityFile {folder}/id"]
        lines += ["IdentitiesOnly yes", "IdentityAgent none", f"UserKnownHostsFile {folder}/known_hosts"]
        (folder / "ssh_config").write_text("\n  ".join([*lines, "GlobalKnownHostsFile /dev/null"]) + "\n")
        (folder / "bin").mkdir()
        (folder / "bin/ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh_config "$@"\n')
        (folder / "bin/ssh").chmod(0o755)

    def _sensors(self, clock: int) -> None:
        """What a Pi shows below /sys: plain files, so a test can change them. Topology as here: engines count by it."""
        cpus = self.root / "sys/devices/system/cpu"
        for name in ("possible", "present", "online"):
            cpus.mkdir(parents=True, exist_ok=True)
            (cpus / name).write_text((Path("/sys/devices/system/cpu") / name).read_text())
        for number in range(os.cpu_count() or 1):
            there = cpus / f"cpu{number}"
            (there / "cpufreq").mkdir(parents=True)
            shutil.copytree(f"/sys/devices/system/cpu/cpu{number}/topology", there / "topology", copy_function=_copy)
            for name, value in {"cpuinfo_max_freq": clock, "scaling_cur_freq": 1_500_000}.items():
                (there / "cpufreq" / name).write_text(f"{value}\n")
        zone = self.root / "sys/class/thermal/thermal_zone0"
        zone.mkdir(parents=True)
        (zone / "type").write_text("cpu-thermal\n")
        (zone / "temp").write_text("61342\n")

    def _key(self, name: str) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    def trust(self, *names: str) -> None:
        """Let known_hosts hold the host keys ``names``: "host" is the board's own."""
        keys = [" ".join((self.folder / f"{name}.pub").read_text().split()[:2]) for name in names]
        (self.folder / "known_hosts").write_text("".join(f"board {key}\n[board]:{self.port} {key}\n" for key in keys))

    def __enter__(self) -> SshBoard:
        places = {"folder": self.folder, "root": self.root, "userland": self.userland, "small": SMALL_MB, "at": SMALL}
        with open(self.folder / "log", "wb") as log:
            self._sshd = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", _SERVE.format(**places)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        end = time.monotonic() + 30
        while self._sshd.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        pytest.skip(f"no sshd in a namespace of its own here: {(self.folder / 'log').read_text().strip()[-300:]}")

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._sshd.terminate()
        self._sshd.wait()

    @contextlib.contextmanager
    def with_program(self, name: str, script: str) -> Iterator[None]:
        """Let the board's program ``name`` be ``script`` for a while."""
        there = self.root / "bin" / name
        kept = there.readlink()
        there.unlink()
        there.write_text(f"#!/bin/sh\n{script}\n")
        there.chmod(0o755)
        try:
            yield
        finally:
            there.unlink()
            there.symlink_to(kept)

    def freeze(self) -> None:
        """Let every session stand still, as when the board's power goes: nothing answers, nothing is closed."""
        for child in _children(self._sshd.pid):
            os.kill(child, signal.SIGSTOP)

    def cut(self) -> None:
        """End every session, as when the network goes: the processes that serve them die."""
        for child in _children(self._sshd.pid):
            _kill_tree(child)


def _children(pid: int) -> list[int]:
    """By their own word: /proc/PID/task/PID/children may miss some while others exit."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{pid}\n" in status.read_text(errors="replace"):
                found.append(int(status.parent.name))
    return found


def _kill_tree(pid: int) -> None:
    children = _children(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in children:
        _kill_tree(child)


def _copy(source: str, target: str) -> None:
    try:
        Path(target).write_bytes(Path(source).read_bytes())
    except OSError:  # some of these files cannot be read
        return


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def reasons() -> str:
    """Why there can be no such board here; "" where there can."""
    if os.geteuid() != 0:
        return "an sshd with a mount namespace of its own needs root"
    for tool in ("/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen", "/usr/bin/unshare"):
        if not Path(tool).exists():
            return f"{tool} is missing: apt-get install openssh-server"
    mounted = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"binfmt_misc in a user namespace (Linux 6.7): {done.stderr.strip()}" if done.returncode else ""
