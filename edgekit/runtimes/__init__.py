"""What runs on the device: numpy, tokenizers and one engine, no torch. docs/runtime.md tells how it behaves."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.runtimes.recovery import Guarded
    from edgekit.runtimes.slots import Slots

__all__ = ["Guarded", "Slots"]

# Imported on first use, so that a device pays for nothing that it does not run.
_HOMES = {
    "Guarded": "edgekit.runtimes.recovery",
    "Slots": "edgekit.runtimes.slots",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'edgekit.runtimes' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
