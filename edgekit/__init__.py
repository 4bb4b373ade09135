"""Take a BERT from a workstation to a bundle that runs on a board, with the proof of what that cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit._lazy import lazy

if TYPE_CHECKING:
    from edgekit._version import __version__
    from edgekit.compress import compress
    from edgekit.devices.profiler import profile
    from edgekit.runtimes.load import load
    from edgekit.runtimes.verify import verify

__all__ = ["__version__", "compress", "load", "profile", "verify"]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "__version__": "edgekit._version",
        "compress": "edgekit.compress",
        "load": "edgekit.runtimes.load",
        "profile": "edgekit.devices.profiler",
        "verify": "edgekit.runtimes.verify",
    },
)
