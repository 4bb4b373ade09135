"""Which process of a distributed run this is. Alone, it is the first and waits for nobody."""

from __future__ import annotations

import os


def distributed() -> bool:
    """Whether a launcher started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process measures, decides and writes."""
    return int(os.environ.get("RANK", "0")) == 0


def wait() -> None:
    """Until every process has come here."""
    if distributed():
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available()).wait_for_everyone()
