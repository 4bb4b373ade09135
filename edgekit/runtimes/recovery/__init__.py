"""Recovery: a model that restarts, changes engines and falls back by itself. docs/recovery.md tells how."""

from edgekit.runtimes.recovery.guarded import Guarded
from edgekit.runtimes.recovery.journal import Event

__all__ = ["Event", "Guarded"]
