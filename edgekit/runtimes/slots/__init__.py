"""Two places for a bundle: a new one beside the one that runs, and the way back. docs/recovery.md tells how."""

from edgekit.runtimes.slots.slots import Slots
from edgekit.runtimes.slots.state import State

__all__ = ["Slots", "State"]
