"""The machine at hand: what it is, what is installed on it, how fast a bundle runs there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit._lazy import lazy

if TYPE_CHECKING:
    from edgekit.devices.probe import environment
    from edgekit.devices.profiler import Profile, profile

__all__ = ["Profile", "environment", "profile"]

# Lazy also because the process behind a profile's row imports this package before its clock starts.
__getattr__, __dir__ = lazy(
    __name__,
    {
        "Profile": "edgekit.devices.profiler",
        "environment": "edgekit.devices.probe",
        "profile": "edgekit.devices.profiler",
    },
)
