"""A torchvision whose compiled operators do not fit torch, as PyPI's CUDA build beside a CPU torch, made importable.

transformers, timm and open_clip import torchvision wherever it is installed and stop with it. Nothing that edgekit asks
of them uses its compiled operators, so those that its import looks for are declared, without an implementation.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

_HELD: list[object] = []  # what is declared goes with its library


def repair() -> None:
    """Declare the operators for this process where torchvision is installed and cannot be imported otherwise."""
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" in str(error):
            _declare()
    except (ImportError, OSError):
        return  # whoever needs it will say so


def _declare() -> None:
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _HELD.append(library)
