"""Boards as data: a TOML file each, every fact with its source; which of them this machine is, and what differs."""

from edgekit.devices.boards.identify import Disagreement, Seen, differences, identify, look
from edgekit.devices.boards.load import load, names
from edgekit.devices.boards.record import Board

__all__ = ["Board", "Disagreement", "Seen", "differences", "identify", "load", "look", "names"]
