"""INT8 rounding inside a float model: forward rounds as the engines do, backward goes on as if it had not.

Simulated quantization and the integer scheme are Jacob et al. 2018 (sections 2.1 and 3); gradients pass rounding by the
straight-through estimator (Bengio et al. 2013). The ends of activation ranges are learned with the gradient of LSQ
(Esser et al. 2020, section 2.1), an asymmetric range as in LSQ+ (Bhalgat et al. 2020), in the log domain as Jain et al.
2020 (section 3.2) do, so that one learning rate suits ranges of every size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgekit.distill.encoder import Encoder

WEIGHT_LEVELS = 127  # symmetric: -127 to 127
LEVELS = 255  # UINT8
RATE = 20.0  # how much faster than a weight the logarithm of a range's end may move

Ends = tuple[float, float]  # the lowest and the highest value that a range holds, 0 among them


class Range(nn.Module):
    """A tensor rounded to UINT8 codes of one learned range. ``log`` (2,) moves the ends from where they ``start``."""

    start: Tensor

    def __init__(self, ends: Ends) -> None:
        super().__init__()
        self.register_buffer("start", torch.tensor(ends, dtype=torch.float32))
        self.log = nn.Parameter(torch.zeros(2))

    def ends(self) -> Tensor:
        """Lowest and highest value, float32 (2,). Neither ever changes its sign."""
        return self.start * (RATE * self.log).exp()

    def codes(self) -> tuple[float, int]:
        """Scale and zero point: the value of code q is ``(q - zero point) * scale``."""
        with torch.no_grad():
            scale, zero = _codes(self.ends())
        return float(scale), int(zero)

    def forward(self, x: Tensor) -> Tensor:
        """x, any shape and float type -> float32 of that shape; in float32 also under bf16 autocast."""
        rounded: Tensor = _Round.apply(x.float(), self.ends())
        return rounded


class Rows(nn.Module):
    """A matrix with each row rounded to symmetric INT8, as :func:`edgekit.quantize.embeddings.quantize_rows` does."""

    def forward(self, matrix: Tensor) -> Tensor:
        """float (..., width) -> the same shape; a row is the last axis."""
        rounded: Tensor = _RoundRows.apply(matrix)
        return rounded


class Channels(nn.Module):
    """Weights of a convolution with each output channel rounded to symmetric INT8."""

    def forward(self, weight: Tensor) -> Tensor:
        """float (outputs, inputs a group, height, width) -> the same shape."""
        rounded: Tensor = _RoundRows.apply(weight.flatten(1))
        return rounded.view_as(weight)


class Biases(nn.Module):
    """Biases of a layer as the INT32 that its sums of products are: steps of the input's scale times the channel's.

    ``layer`` has weights that round channel by channel; ``read`` is the range of what it reads.
    """

    def __init__(self, layer: nn.Module, read: Range) -> None:
        super().__init__()
        self._of = (layer, read)  # parts of the model already, not of this module

    def forward(self, bias: Tensor) -> Tensor:
        """float (channels,) -> the same shape."""
        layer, read = self._of
        with torch.no_grad():
            weight: Tensor = layer.parametrizations.weight.original  # type: ignore[union-attr, assignment]
            scale, _ = _codes(read.ends())
            step = scale * row_scales(weight.flatten(1)).flatten()
            moved = (bias / step).round() * step - bias
        return bias + moved


def insert(encoder: Encoder, ranges: dict[str, Ends]) -> None:
    """Let ``encoder`` round, from now on: every Linear's weight and input, and both embedding tables.

    ``ranges``: the first range of each Linear's input, by the module's name, for all of :func:`linears`.
    """
    insert_products(linears(encoder), ranges)
    insert_tables(encoder)


def insert_products(found: dict[str, nn.Linear], ranges: dict[str, Ends]) -> None:
    """Let every Linear of ``found`` round its weight and, first in the range of its name, its input."""
    for name, linear in found.items():
        parametrize.register_parametrization(linear, "weight", Rows())
        linear.input_range = Range(ranges[name])
        linear.register_forward_pre_hook(_round_input)


def insert_tables(encoder: Encoder) -> None:
    """Let both embedding tables round row by row."""
    parametrize.register_parametrization(encoder.position, "weight", Rows())
    insert_words(encoder.word)


def insert_words(table: nn.Embedding) -> None:
    """Let the rows of ``table`` round, only those that a text needs."""
    rows = Rows()
    table.register_forward_hook(lambda _module, _ids, found: rows(found))


def remove(encoder: Encoder) -> tuple[Encoder, dict[str, Range]]:
    """The encoder without rounding, its weights as they were trained, and the ranges by their Linear's name."""
    ranges = {name: linear.input_range.cpu() for name, linear in linears(encoder).items()}
    state = {k.replace("parametrizations.weight.original", "weight"): v for k, v in encoder.state_dict().items()}
    plain = Encoder(encoder.config)
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain.eval(), ranges  # type: ignore[return-value]


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """Every Linear by its name, in the order of the modules."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def observe(found: dict[str, nn.Linear], run: Callable[[], None]) -> dict[str, Ends]:
    """Of each Linear's input, the mean of the lowest and of the highest values over the forward passes of ``run``."""
    seen: dict[str, list[Tensor]] = {name: [] for name in found}
    hooks = [
        module.register_forward_pre_hook(
            lambda _module, args, kept=seen[name]: kept.append(torch.stack(torch.aminmax(args[0])))
        )
        for name, module in found.items()
    ]
    with torch.inference_mode():
        run()
    for hook in hooks:
        hook.remove()
    return {name: mean_ends(kept) for name, kept in seen.items()}


def mean_ends(spans: list[Tensor]) -> Ends:
    """The mean of lowest and highest values, (2,) each, with 0 inside."""
    mean = torch.stack(spans).mean(0)
    low, high = min(float(mean[0]), 0.0), max(float(mean[1]), 0.0)
    return (low, high) if high > low else (0.0, 1.0)  # a tensor that is always zero


def _round_input(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (module.input_range(args[0]),)  # type: ignore[operator]


def _codes(ends: Tensor) -> tuple[Tensor, Tensor]:
    scale = (ends[1] - ends[0]) / LEVELS
    return scale, (-ends[0] / scale).round().clamp(0, LEVELS)


def row_scales(matrix: Tensor) -> Tensor:
    """The scale (..., 1) of each row of ``matrix``."""
    scale = matrix.abs().amax(-1, keepdim=True) / WEIGHT_LEVELS
    return torch.where(scale > 0, scale, 1.0)


class _RoundRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        scale = row_scales(matrix)
        return (matrix / scale).round_().mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ends: Tensor) -> Tensor:
        scale, zero = _codes(ends)
        rounded = (x / scale).round_().clamp_(-zero, LEVELS - zero).mul_(scale)
        ctx.save_for_backward(x, rounded, ends)
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, rounded, ends = ctx.saved_tensors
        gradient, (low, high) = gradients[0], ends
        inside = gradient * ((x >= low) & (x <= high))
        outside = gradient - inside
        above = (outside * (x > 0)).sum()
        stretch = (inside * (rounded - x)).sum() / (high - low)
        # LSQ, section 2.2: else these sums over a whole tensor would rule the clipped norm of all gradients
        features = x.shape[-1] if x.ndim < 4 else x[0].numel()  # of a token, of a map
        weight = 1 / math.sqrt(features * LEVELS)
        return inside, weight * torch.stack([outside.sum() - above - stretch, above + stretch])
