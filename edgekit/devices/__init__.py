"""The machine at hand: what it is, what is installed on it, how fast a bundle runs there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.devices.probe import environment
    from edgekit.devices.profiler import Profile, profile

__all__ = ["Profile", "environment", "profile"]

_HOMES = {"environment": "probe", "Profile": "profiler", "profile": "profiler"}


def __getattr__(name: str) -> Any:
    # Lazy: the process behind a profile's row imports this package before its clock starts.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
