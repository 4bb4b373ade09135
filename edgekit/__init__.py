"""Take a BERT from a workstation to a bundle that runs on a board, with the proof of what that cost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit._version import __version__
    from edgekit.compress import compress
    from edgekit.devices.profiler import profile
    from edgekit.runtimes.load import load
    from edgekit.runtimes.verify import verify

__all__ = ["__version__", "compress", "load", "profile", "verify"]

# Imported on first use, so that a device pays for nothing but the runtime.
_HOMES = {
    "__version__": "edgekit._version",
    "compress": "edgekit.compress",
    "load": "edgekit.runtimes.load",
    "profile": "edgekit.devices.profiler",
    "verify": "edgekit.runtimes.verify",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    # Set over the submodule of the same name (edgekit.compress), so that edgekit.compress is always the function.
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
