"""Torch: one encoder for teacher and student, losses, the training loop, structured pruning."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from edgekit.distill.torchvision import repair

# transformers imports torchao where it is installed (litert-torch brings it). Nothing of it is used here, its import
# takes seconds, and it warns of its CUDA parts and of torch's internals at every start.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
repair()  # before transformers is imported, which stops at such a torchvision
if find_spec("torchao") is not None:
    from transformers.utils import import_utils

    import_utils._torchao_available = False
