"""Profiles as files: reading what a board or a phone sent, and comparing two. Needs pydantic; measuring does not."""

from edgekit.devices.profiles.compare import compare
from edgekit.devices.profiles.read import read, without_times

__all__ = ["compare", "read", "without_times"]
