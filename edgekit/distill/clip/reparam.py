"""Convolutions that are trained as several branches and run as one: structural re-parameterisation.

A convolution followed by BatchNorm is linear at inference, and so is a sum of such branches (Ding et al. 2021, RepVGG,
section 3.3). MobileOne (Vasu et al. 2023, section 3) and RepLKNet (Ding et al. 2022) name the branches used here.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = nn.BatchNorm1d | nn.BatchNorm2d
Folded = tuple[Tensor, Tensor]  # weight, bias
Module = TypeVar("Module", bound=nn.Module)


class Mergeable(nn.Module):
    """A module whose ``merge`` rewrites its own parameters, once, into those of the equal inference form."""

    def merge(self) -> None:
        """Fold branches, BatchNorms and scales. The module must have merged children first."""
        raise NotImplementedError


def reparameterize(model: Module) -> Module:
    """A copy of ``model``, on the CPU and in evaluation mode, with every branch merged and every BatchNorm folded.

    The result computes what ``model.eval()`` does, to rounding; merging again changes nothing.
    """
    merged = deepcopy(model).cpu().eval()
    with torch.no_grad():
        for module in reversed(list(merged.modules())):  # children stand after their parents
            if isinstance(module, Mergeable):
                module.merge()
    return merged


def scale_and_shift(norm: Norm) -> Folded:
    """A BatchNorm at inference as x * scale + shift, both (C,)."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def identity_kernel(like: Tensor) -> Tensor:
    """The kernel that copies its input, of the shape of ``like``: (outputs, inputs a group, height, width)."""
    kernel = torch.zeros_like(like)
    rows = torch.arange(like.shape[0])
    kernel[rows, rows % like.shape[1], like.shape[2] // 2, like.shape[3] // 2] = 1.0
    return kernel


def filled(conv: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Give a freshly made layer these parameters."""
    assert conv.bias is not None and conv.weight.shape == weight.shape
    conv.weight.data, conv.bias.data = weight.detach().clone(), bias.detach().clone()


class Conv2d(nn.Conv2d):
    """``nn.Conv2d``, whose groups run in fp32 where autocast asks a processor for bfloat16.

    The backward pass of depthwise convolutions in bfloat16 takes three times as long on x86 (torch 2.13).
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.groups > 1 and input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm. Padding is half the kernel."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, groups: int = 1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        pad = (kernel[0] // 2, kernel[1] // 2)
        self.conv = Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return out

    def folded(self) -> Folded:
        """Weight and bias of the one convolution that does the same."""
        scale, shift = scale_and_shift(self.norm)
        return self.conv.weight * scale[:, None, None, None], shift


class SqueezeExcite(nn.Module):
    """Channels weighed by what the whole picture holds. Hu et al. 2018, section 3."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.reduce = Conv2d(channels, inner, 1)
        self.expand = Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(weights)


class RepConv(Mergeable):
    """A sum of convolution branches, one a size in ``kernels``, and of a BatchNorm where ``skip``; then SE and GELU.

    x (B, inputs, H, W) to (B, outputs, H / stride, W / stride). The merged kernel has ``size``; padding is half of it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        *,
        kernels: tuple[tuple[int, int], ...],
        stride: int = 1,
        groups: int = 1,
        skip: bool = False,
        squeeze: int = 0,
        gelu: bool = True,
        branches: bool = True,
    ) -> None:
        super().__init__()
        self.merged: nn.Conv2d | None = None
        self.branches: nn.ModuleList | None = None
        self.skip: nn.BatchNorm2d | None = None
        self.inputs, self.outputs, self.size, self.stride, self.groups = inputs, outputs, size, stride, groups
        if branches:
            self.branches = nn.ModuleList(ConvNorm(inputs, outputs, k, stride, groups) for k in kernels)
            self.skip = nn.BatchNorm2d(inputs) if skip else None
        else:
            self.merged = self._one()
        self.squeeze = SqueezeExcite(outputs, squeeze) if squeeze else None
        self.gelu = gelu

    def _one(self) -> nn.Conv2d:
        pad = (self.size[0] // 2, self.size[1] // 2)
        return nn.Conv2d(self.inputs, self.outputs, self.size, self.stride, pad, groups=self.groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.merged is not None:
            out = self.merged(x)
        else:
            assert self.branches is not None
            parts = [branch(x) for branch in self.branches]
            if self.skip is not None:
                parts.append(self.skip(x))
            out = sum(parts[1:], parts[0])
        if self.squeeze is not None:
            out = self.squeeze(out)
        return F.gelu(out) if self.gelu else out

    def merge(self) -> None:
        if self.merged is not None:
            return
        one = self._one()
        weight, bias = torch.zeros_like(one.weight), one.weight.new_zeros(self.outputs)
        for branch in self.branches or ():
            assert isinstance(branch, ConvNorm)
            kernel, shift = branch.folded()
            high, wide = ((big - small) // 2 for big, small in zip(self.size, kernel.shape[2:], strict=True))
            weight += F.pad(kernel, (wide, wide, high, high))
            bias += shift
        if self.skip is not None:
            scale, shift = scale_and_shift(self.skip)
            weight += identity_kernel(weight) * scale[:, None, None, None]
            bias += shift
        filled(one, weight, bias)
        self.merged, self.branches, self.skip = one, None, None


class RepMixer(Mergeable):
    """Token mixing by a depthwise convolution that becomes one, skip included. FastViT (Vasu et al. 2023), section 3.1.

    x (B, width, H, W), unchanged in shape: x + scale * (mixer(x) - norm(x)).
    """

    def __init__(self, width: int, size: tuple[int, int], branches: bool, scale: float) -> None:
        super().__init__()
        self.width, self.size = width, size
        self.merged: nn.Conv2d | None = None
        self.norm: RepConv | None = None
        self.mixer: RepConv | None = None
        self.scale: nn.Parameter | None = None
        if branches:
            point = ((1, 1),) if size[0] > 1 else ()  # a text mixer, one row high, has no 1 x 1 branch
            common = {"groups": width, "skip": True, "gelu": False}
            self.norm = RepConv(width, width, size, kernels=(), **common)  # type: ignore[arg-type]
            self.mixer = RepConv(width, width, size, kernels=(size, *point), **common)  # type: ignore[arg-type]
            self.scale = nn.Parameter(torch.full((width, 1, 1), scale))
        else:
            self.merged = self._one()

    def _one(self) -> nn.Conv2d:
        pad = (self.size[0] // 2, self.size[1] // 2)
        return nn.Conv2d(self.width, self.width, self.size, padding=pad, groups=self.width)

    def forward(self, x: Tensor) -> Tensor:
        if self.merged is not None:
            out: Tensor = self.merged(x)
            return out
        assert self.norm is not None and self.mixer is not None and self.scale is not None
        return x + self.scale * (self.mixer(x) - self.norm(x))

    def merge(self) -> None:
        if self.merged is not None:
            return
        assert self.norm is not None and self.mixer is not None and self.scale is not None
        mixer, norm = self.mixer.merged, self.norm.merged
        assert mixer is not None and norm is not None and mixer.bias is not None and norm.bias is not None
        one, scale = self._one(), self.scale
        weight = identity_kernel(mixer.weight) + scale[..., None] * (mixer.weight - norm.weight)
        filled(one, weight, scale.flatten() * (mixer.bias - norm.bias))
        self.merged, self.norm, self.mixer, self.scale = one, None, None, None


class ConvMLP(Mergeable):
    """Depthwise convolution and BatchNorm, then two 1 x 1 convolutions with GELU between, then a learned scale.

    x (B, width, H, W), unchanged in shape. ``hidden`` channels stand between. FastViT, section 3.3.
    """

    def __init__(self, width: int, hidden: int, size: tuple[int, int], branches: bool, scale: float) -> None:
        super().__init__()
        self.width, self.size = width, size
        self.mix: nn.Module = ConvNorm(width, width, size, groups=width) if branches else self._one()
        self.up = Conv2d(width, hidden, 1)
        self.down = Conv2d(hidden, width, 1)
        self.scale: nn.Parameter | None = nn.Parameter(torch.full((width, 1, 1), scale)) if branches else None
        for layer in (self.up, self.down):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def _one(self) -> nn.Conv2d:
        pad = (self.size[0] // 2, self.size[1] // 2)
        return nn.Conv2d(self.width, self.width, self.size, padding=pad, groups=self.width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(self.mix(x))))
        return out if self.scale is None else out * self.scale

    def merge(self) -> None:
        if isinstance(self.mix, ConvNorm):
            one = self._one()
            filled(one, *self.mix.folded())
            self.mix = one
        if self.scale is not None:
            assert self.down.bias is not None
            filled(self.down, self.down.weight * self.scale[..., None], self.down.bias * self.scale.flatten())
            self.scale = None


class RepMixerBlock(nn.Module):
    """RepMixer, then a ConvMLP beside a skip connection. FastViT, figure 2; MobileCLIP (Vasu et al. 2024), figure 5."""

    def __init__(
        self, width: int, hidden: int, mix: tuple[int, int], conv: tuple[int, int], branches: bool, scale: float
    ) -> None:
        super().__init__()
        self.mixer = RepMixer(width, mix, branches, scale)
        self.mlp = ConvMLP(width, hidden, conv, branches, scale)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixer(x)
        out: Tensor = x + self.mlp(x)
        return out
