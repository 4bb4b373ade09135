"""Pruning by reconstruction: hidden channels go, and what a block's other channels can say in their place they say.

Every block has a last linear layer that reads its hidden channels and adds to its output. Least squares fits that layer
anew to the output that the whole tower's block has, on what the blocks before, pruned already, let through (He et al.
2017, section 3; Luo et al. 2017, ThiNet). No labels are needed, and no steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.distill.clip.cut import Tower, cut_ffn
from edgekit.distill.clip.efficientnet import NormedConv
from edgekit.distill.clip.importance import Site, ffn_sites
from edgekit.distill.clip.least_squares import Elimination, Moments, eliminate, refit
from edgekit.distill.clip.reparam import reparameterize
from edgekit.errors import ModelError
from edgekit.progress import Progress, Silent, track

_BATCH = 32
_ROWS = 64  # positions of an input that a block is judged by
_PROBE = 64  # inputs that tell how much the embedding minds a block's error
_TRAFFIC = 20  # multiply-adds in the time in which one number is written; EfficientNet-Lite0 in onnxruntime, x86
_COPIES = 3  # of a picture that is padded before a convolution: the padding, and twice another layout


@dataclass(frozen=True)
class Price:
    """What a block's channels cost. ``losses``: of the embedding, as a share of its variance, with so many gone.

    ``effort``: of one channel, see :func:`effort`.
    """

    losses: list[float]
    effort: float


def reconstruct_image(
    tower: Tower, images: Tensor, share: float, *, multiple: int = 16, progress: Progress = Silent()
) -> Tower:
    """``tower`` merged, without hidden channels that take ``share`` (0..1) of its :func:`effort`, the rest refitted.

    ``images`` (N, 3, S, S) calibrate; a few hundred will do. How many go from which block is weighed by what the
    embedding loses against the effort. A block keeps a ``multiple`` of channels. Raises ModelError where there are not
    so many to take.
    """
    if not 0 <= share < 1:
        raise ModelError("share to prune", found=share, expected="from 0 to below 1")
    full = reparameterize(tower)
    found = survey(full, images, progress)
    keep = allocate(found, share * effort(full, images[:1]), multiple)
    return reconstruct(full, images, keep, progress)


def narrow_image(
    tower: Tower, images: Tensor, kept: float, *, multiple: int = 16, progress: Progress = Silent()
) -> Tower:
    """As :func:`reconstruct_image`, but ``kept`` (0..1) is the share of hidden channels that stay, at most.

    Which ones go is weighed by their effort all the same. Raises ModelError for fewer than can be.
    """
    full = reparameterize(tower)
    sizes = _channels(full)
    least = sum(min(size, multiple) for size in sizes) / sum(sizes)  # of each block something stays
    if not least <= kept <= 1:
        raise ModelError("share to keep", found=kept, expected=f"from {least:.2f} to 1")
    keep = allocate(survey(full, images, progress), (1 - kept) * sum(sizes), multiple, lambda price: 1.0)
    return reconstruct(full, images, keep, progress)


def reconstruct(full: Tower, images: Tensor, keep: list[int], progress: Progress = Silent()) -> Tower:
    """``full``, merged, with as many hidden channels in each block of :func:`ffn_sites` as ``keep`` says.

    Block after block: inputs come from the blocks cut so far, and each also makes good what those got wrong.
    """
    wanted: list[list[Tensor]] = [[] for _ in keep]
    _visit(full, images, lambda number, _, __, output: wanted[number].append(output))
    chained, small, inputs = _chained(full, images[:1]), full, list[Tensor]()
    for number in track(progress, "reconstruct blocks", range(len(keep)), len(keep)):
        if not chained[number]:
            inputs = _inputs_of(small, number, images)
        if keep[number] < _channels(small)[number]:
            moments, places = Moments.none(), _places(number)
            for x, goal in zip(inputs, wanted[number], strict=True):
                hidden, answer, output = _rows(*_answer(ffn_sites(small)[number], x), places)
                moments = moments + Moments.of(hidden, goal - (output - answer))
            order = eliminate(moments).order
            small = without(small, number, order[len(order) - keep[number] :], moments)
        wanted[number].clear()
        with torch.inference_mode():
            inputs = [ffn_sites(small)[number].block(x) for x in inputs]
    return small


def without(tower: Tower, number: int, keep: list[int], moments: Moments) -> Tower:
    """A copy whose block ``number`` has the hidden channels ``keep`` alone, refitted to ``moments``."""
    sizes = _channels(tower)
    rows = [list(range(size)) for size in sizes]
    rows[number] = sorted(keep)
    small = cut_ffn(tower, rows, [torch.zeros(size) for size in sizes])
    layer = ffn_sites(small)[number].consumer
    weight, bias = refit(moments, torch.tensor(rows[number]))
    assert layer.bias is not None, "merged"
    with torch.no_grad():
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        layer.bias.copy_(bias)
    return small


def survey(full: Tower, images: Tensor, progress: Progress = Silent()) -> list[Price]:
    """What the channels of each block of ``full``, merged, cost when it alone is cut: measured for half of them.

    In between, the embedding's error is taken to grow as the block's own does.
    """
    sizes = _channels(full)
    moments = [Moments.none()] * len(sizes)

    def add(number: int, hidden: Tensor, answer: Tensor, _: Tensor) -> None:
        moments[number] = moments[number] + Moments.of(hidden, answer)

    _visit(full, images, add)
    probe = images[:_PROBE]
    reference, whole = _embeddings(full, probe), effort(full, images[:1])
    variance = float((reference - reference.mean(0)).square().sum())
    prices = []
    for number in track(progress, "survey of blocks", range(len(sizes)), len(sizes)):
        found: Elimination = eliminate(moments[number])
        gone = sizes[number] // 2
        half = without(full, number, found.order[gone:], moments[number])
        lost = float((_embeddings(half, probe) - reference).square().sum()) / max(variance, 1e-30)
        errors = [error - found.errors[0] for error in found.errors]
        scale = lost / max(errors[gone], 1e-30)
        prices.append(Price([scale * e for e in errors], (whole - effort(half, images[:1])) / max(gone, 1)))
    return prices


def allocate(
    prices: list[Price], amount: float, multiple: int, counts: Callable[[Price], float] = lambda price: price.effort
) -> list[int]:
    """Channels that each block keeps so that ``amount`` is gone: each time the cheapest ``multiple`` goes.

    ``counts``: what one channel of a block counts towards it; its effort. Cheapest in loss by effort, looking ahead as
    far as the block goes, which always keeps some. Raises ModelError when that much cannot go.
    """
    keep = [len(price.losses) - 1 for price in prices]
    saved = 0.0
    while saved < amount:
        options = [(_slope(p, kept, multiple), n) for n, (p, kept) in enumerate(zip(prices, keep, strict=True))]
        slope, number = min(options)
        if slope == float("inf"):
            raise ModelError("share to prune", found=f"{amount:.3g} of the tower", expected=f"at most {saved:.3g}")
        step = keep[number] - _below(keep[number], multiple)
        keep[number] -= step
        saved += step * counts(prices[number])
    return keep


def _below(kept: int, multiple: int) -> int:
    """The next lower number of channels."""
    return (kept - 1) // multiple * multiple


def _slope(price: Price, kept: int, multiple: int) -> float:
    """The least loss by effort of taking one step or several."""
    whole = len(price.losses) - 1
    steps = range(_below(kept, multiple), 0, -multiple)
    lost = ((price.losses[whole - to] - price.losses[whole - kept]) / ((kept - to) * price.effort) for to in steps)
    return min(lost, default=float("inf"))


def effort(tower: nn.Module, inputs: Tensor) -> float:
    """An estimate of the time for one of ``inputs``, in multiply-adds: those of a merged tower, and numbers written."""
    total = 0.0

    def count(layer: nn.Conv2d | nn.Linear, args: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        total += output.numel() * (layer.weight[0].numel() + _TRAFFIC)

    def padded(layer: NormedConv, args: tuple[Tensor], output: Tensor) -> None:
        nonlocal total
        total += _COPIES * _TRAFFIC * args[0].numel() if layer.uneven else 0

    handles = [m.register_forward_hook(count) for m in tower.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles += [m.register_forward_hook(padded) for m in tower.modules() if isinstance(m, NormedConv)]
    with torch.inference_mode():
        tower(inputs)
    for handle in handles:
        handle.remove()
    return total / len(inputs)


class _EnoughError(Exception):
    """The block that was asked for has been reached."""


def _visit(tower: Tower, images: Tensor, see: Callable[[int, Tensor, Tensor, Tensor], None]) -> None:
    """Call ``see(block, hidden, answer, output)`` for each batch and block: rows of some positions, always the same.

    ``hidden`` is what the block's last layer reads, ``answer`` what that says, ``output`` what the block says.
    """
    inside: dict[int, tuple[Tensor, Tensor]] = {}
    handles = []
    for number, site in enumerate(ffn_sites(tower)):

        def note(module: nn.Module, args: Any, answer: Tensor, number: int = number) -> None:
            inside[number] = args[0], answer

        def tell(module: nn.Module, args: Any, output: Tensor, number: int = number, places: Any = None) -> None:
            see(number, *_rows(*inside.pop(number), output, places))

        tell_here = partial(tell, places=_places(number))
        handles += [site.consumer.register_forward_hook(note), site.block.register_forward_hook(tell_here)]
    _embeddings(tower, images)
    for handle in handles:
        handle.remove()


def _answer(site: Site, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden channels, the last layer's answer and the block's output for the block's input ``x``."""
    inside: list[Tensor] = []
    handle = site.consumer.register_forward_hook(lambda module, args, answer: inside.extend((args[0], answer)))
    with torch.inference_mode():
        output = site.block(x)
    handle.remove()
    return inside[0], inside[1], output


def _inputs_of(tower: Tower, number: int, images: Tensor) -> list[Tensor]:
    """What block ``number`` is given, by batches."""
    found: list[Tensor] = []

    def note(module: nn.Module, args: Any) -> None:
        found.append(args[0])
        raise _EnoughError

    handle = ffn_sites(tower)[number].block.register_forward_pre_hook(note)
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            with suppress(_EnoughError):
                tower(images[start : start + _BATCH])
    handle.remove()
    return found


def _chained(tower: Tower, image: Tensor) -> list[bool]:
    """Of each block whether it is given just what the block before says."""
    found: list[bool] = []
    last: list[Tensor | None] = [None]
    handles = []
    for site in ffn_sites(tower):
        handles.append(site.block.register_forward_pre_hook(lambda m, args: found.append(args[0] is last[0])))
        handles.append(site.block.register_forward_hook(lambda m, args, output: last.__setitem__(0, output)))
    with torch.inference_mode():
        tower(image)
    for handle in handles:
        handle.remove()
    return found


def _places(number: int) -> torch.Generator:
    """What draws the positions that block ``number`` is judged at, the same in every tower."""
    return torch.Generator().manual_seed(number)


def _rows(hidden: Tensor, answer: Tensor, output: Tensor, places: torch.Generator) -> list[Tensor]:
    """Some positions of each, (B, C, H, W) or (B, T, C), as rows (R, C)."""
    chosen = torch.randperm(_flat(output).shape[1], generator=places)[:_ROWS]
    return [_flat(x)[:, chosen].flatten(0, 1) for x in (hidden, answer, output)]


def _flat(x: Tensor) -> Tensor:
    """(B, C, H, W) or (B, T, C) as (B, positions, C)."""
    return x.flatten(2).transpose(1, 2) if x.ndim == 4 else x


def _channels(tower: Tower) -> list[int]:
    return [site.consumer.weight.shape[1] for site in ffn_sites(tower)]


def _embeddings(tower: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([tower(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)])
