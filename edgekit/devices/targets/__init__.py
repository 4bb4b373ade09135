"""Machines that bundles are sent to and measured on: this one, or a board behind ssh. docs/boards/raspberry-pi.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.devices.targets.target import Target

__all__ = ["open_target"]


def open_target(text: str, silence_s: float | None = None) -> Target:
    """The target ``local`` or ``ssh://user@host[:port]``; a context manager. Raises ``InputError`` for another text.

    ``silence_s``: after so many seconds without a word or progress a step there is given up; a few steps, which cannot
    tell how far they are, may take five times as long. Nothing is connected yet.
    """
    from edgekit.devices.targets.address import parse
    from edgekit.devices.targets.process import SILENCE_S
    from edgekit.devices.targets.ssh import Ssh
    from edgekit.devices.targets.target import Local
    from edgekit.errors import InputError

    limit = SILENCE_S if silence_s is None else silence_s
    if not 1 <= limit <= 86_400:
        raise InputError("--silence", found=limit, expected="1 to 86400 seconds")
    address = parse(text)
    return Local(limit) if address is None else Ssh(address, limit)
