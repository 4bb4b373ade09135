"""A board behind ssh: the system's own ssh with its configuration, agent and known hosts. No password passes here."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from edgekit.devices.targets.address import Address
from edgekit.devices.targets.process import SILENCE_S, Done, Heard, Step, run_process
from edgekit.devices.targets.target import fetched
from edgekit.errors import HostKeyError, MissingDependencyError, TargetError

FAILED = 255  # ssh's own exit status; what runs on the board never ends with it
OPTIONS = {
    "BatchMode": "yes",  # never ask: nobody may be there to answer
    "ControlMaster": "auto",
    "ControlPersist": "60",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "5",  # a dead connection ends after 15 s; what hangs on a live one: process.py
    "ServerAliveCountMax": "3",
}


class Ssh:
    """Commands over one connection, opened by the first of them and shared by the rest."""

    def __init__(self, address: Address, silence_s: float = SILENCE_S) -> None:
        if shutil.which("ssh") is None:
            raise MissingDependencyError("ssh", found="not on the PATH", fix="apt-get install openssh-client")
        self.address, self.name, self._silence_s = address, str(address), silence_s
        self._folder = tempfile.TemporaryDirectory(prefix="edgekit-ssh-")
        self._socket = str(Path(self._folder.name) / "c")  # short: a socket's path has 104 characters at most

    def run(
        self, command: str, feed: Iterable[bytes] = (), heard: Heard | None = None, step: Step | None = None
    ) -> Done:
        arguments = [*self._ssh(), *self.address.arguments, command]
        done = run_process(arguments, feed, heard, self.name, self._silence_s, step)
        if done.code == FAILED:
            raise failure(self.address, done.err)
        return done

    def fetch(self, path: str) -> bytes:
        return fetched(self, path)

    def _ssh(self) -> list[str]:
        options = {**OPTIONS, "ControlPath": self._socket}
        return ["ssh", "-T", "-x", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if Path(self._socket).exists():
            leave = [*self._ssh(), "-O", "exit", *self.address.arguments]
            with contextlib.suppress(subprocess.TimeoutExpired):  # it ends by itself once nothing uses it
                subprocess.run(leave, capture_output=True, check=False, timeout=10)
        self._folder.cleanup()


def failure(address: Address, told: str) -> TargetError:
    """The error for what ssh itself ``told`` on standard error: what it is, and what to do."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    last = lines[-1] if lines else "ssh ended without a word"
    by_hand = f"ssh {' '.join(address.arguments)}"
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in told:
        where = next((line for line in lines if line.startswith("Offending ")), "")
        host = address.host if address.port is None else f"'[{address.host}]:{address.port}'"
        return HostKeyError(
            f"{address}: its host key has changed",
            found=f"another key than the one in known_hosts ({where})" if where else "another key than in known_hosts",
            expected="the machine that was trusted before",
            fix=f"Where the board was set up anew: ssh-keygen -R {host}, then `{by_hand}` once, and compare the "
            "fingerprint. Where it was not, another machine answers in its place: do not go on.",
        )
    if "Host key verification failed" in told:
        return HostKeyError(
            f"{address}: its host key is not known",
            found=last,
            expected="a host that known_hosts lists",
            fix=f"Run `{by_hand}` once, compare the fingerprint with the board's, and say yes.",
        )
    fixes = {
        "Permission denied": f"Give it your key: ssh-copy-id {' '.join(address.arguments)}",
        "Could not resolve hostname": "Check the name, or give the board's address.",
        "Connection refused": "Is the ssh server on? On a Raspberry Pi: sudo raspi-config, Interface Options, SSH.",
        "No route to host": "Is the board on, and in the same network?",
        "timed out": "Is the board on, and in the same network?",
    }
    fix = next((fix for sign, fix in fixes.items() if sign in told), "Run the command again: it goes on where it was.")
    return TargetError(str(address), found=last, expected="a connection that holds", fix=fix)
