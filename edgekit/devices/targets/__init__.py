"""Machines that bundles are sent to and measured on: this one, or a board behind ssh. docs/boards/raspberry-pi.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.devices.targets.target import Target

__all__ = ["open_target"]


def open_target(text: str) -> Target:
    """The target ``local`` or ``ssh://user@host[:port]``; a context manager. Raises ``InputError`` for another text.

    Nothing is connected yet.
    """
    from edgekit.devices.targets.address import parse
    from edgekit.devices.targets.ssh import Ssh
    from edgekit.devices.targets.target import Local

    address = parse(text)
    return Local() if address is None else Ssh(address)
