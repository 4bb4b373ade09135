"""What runs on the device: numpy, tokenizers and one engine, no torch. docs/runtime.md tells how it behaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit._lazy import lazy

if TYPE_CHECKING:
    from edgekit.runtimes.realtime.governor import Governor
    from edgekit.runtimes.realtime.ladder import Ladder, Rung
    from edgekit.runtimes.realtime.pictures import ImageEmbedder, ZeroShotClassifier
    from edgekit.runtimes.realtime.settings import GovernorSettings
    from edgekit.runtimes.realtime.stream import Stream
    from edgekit.runtimes.recovery import Guarded
    from edgekit.runtimes.slots import Slots
    from edgekit.runtimes.telemetry.read import Telemetry

__all__ = [
    "Governor",
    "GovernorSettings",
    "Guarded",
    "ImageEmbedder",
    "Ladder",
    "Rung",
    "Slots",
    "Stream",
    "Telemetry",
    "ZeroShotClassifier",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "Governor": "edgekit.runtimes.realtime.governor",
        "GovernorSettings": "edgekit.runtimes.realtime.settings",
        "Guarded": "edgekit.runtimes.recovery",
        "ImageEmbedder": "edgekit.runtimes.realtime.pictures",
        "Ladder": "edgekit.runtimes.realtime.ladder",
        "Rung": "edgekit.runtimes.realtime.ladder",
        "Slots": "edgekit.runtimes.slots",
        "Stream": "edgekit.runtimes.realtime.stream",
        "Telemetry": "edgekit.runtimes.telemetry.read",
        "ZeroShotClassifier": "edgekit.runtimes.realtime.pictures",
    },
)
