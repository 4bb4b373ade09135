"""Image towers of convolutions with INT8 rounding where their INT8 file has it, as graphs of torch.fx.

Rounded are, as in :mod:`edgekit.quantize.convolution`: all weights and a convolution's biases; what a convolution
gives, after the activation that its INT8 kernel does by clipping; sums that it is added into; and what any layer reads
that is none of these.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from edgekit.distill.clip.efficientnet import EfficientNet
from edgekit.distill.clip.mci import Mci
from edgekit.distill.fake_quant import Biases, Channels, Ends, Range, Rows, mean_ends
from edgekit.distill.ranges import RESULT, SUM

ConvolutionTower = Mci | EfficientNet
_BOUNDED = (F.relu, F.relu6)


class _Layers(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Conv2d | nn.Linear)


class _Seen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.spans.append(torch.stack(torch.aminmax(x)))
        return x


def observe(tower: ConvolutionTower, pictures: Iterable[Tensor]) -> dict[str, Ends]:
    """The first range of every value of merged ``tower`` that is rounded: the mean extremes of ``pictures``.

    Each (1, 3, S, S). Names as those of :func:`insert`.
    """
    graph, names = _split(tower)
    seen = {name: _Seen() for name in names}
    for name, place in names.items():
        graph.set_submodule(place, seen[name])
    with torch.inference_mode():
        for picture in pictures:
            graph(picture)
    return {name: mean_ends(one.spans) for name, one in seen.items()}


def insert(tower: ConvolutionTower, ends: dict[str, Ends]) -> fx.GraphModule:
    """Merged ``tower``, whose layers it takes over, with rounding from now on, first in the ranges ``ends``.

    A range's name is a layer's for what it reads, with ``RESULT`` or ``SUM`` behind it for what it gives.
    """
    graph, names = _split(tower)
    for name, place in names.items():
        graph.set_submodule(place, Range(ends[name]))
    for node in graph.graph.nodes:
        if not _layer(graph, node):
            continue
        layer, read = graph.get_submodule(str(node.target)), graph.get_submodule(str(_unpadded(node.args[0]).target))
        if isinstance(layer, nn.Linear):
            parametrize.register_parametrization(layer, "weight", Rows())
            continue
        parametrize.register_parametrization(layer, "weight", Channels())
        if layer.bias is not None and isinstance(read, Range):
            parametrize.register_parametrization(layer, "bias", Biases(layer, read))
    vars(graph).update(config=tower.config, places=names)
    return graph


def ranges(graph: fx.GraphModule) -> dict[str, Range]:
    """The ranges of what :func:`insert` made, by their names."""
    places: dict[str, str] = vars(graph)["places"]
    found = {name: graph.get_submodule(place) for name, place in places.items()}
    return {name: one for name, one in found.items() if isinstance(one, Range)}


def _split(tower: ConvolutionTower) -> tuple[fx.GraphModule, dict[str, str]]:
    """``tower`` as a graph with a module of its own at every value that is rounded: those modules' places by name."""
    traced = _Layers().trace(tower)
    graph = fx.GraphModule(tower, traced)
    graph.add_submodule("rounding", nn.ModuleList())
    values, inputs = _values(graph)
    places: dict[str, str] = {}
    for name, value in (values | inputs).items():
        places[name] = f"rounding.{len(places)}"
        graph.add_submodule(places[name], nn.Identity())
        readers = [user for user in value.users if name in values or _reads(graph, user)]
        with traced.inserting_after(value):
            rounded = traced.call_module(places[name], (value,))
        for user in readers:
            user.replace_input_with(value, rounded)
    graph.recompile()
    return graph, places


def _values(graph: fx.GraphModule) -> tuple[dict[str, fx.Node], dict[str, fx.Node]]:
    """Values that all readers get rounded, and those that layers alone do, by name."""
    layers = {str(node.target): node for node in graph.graph.nodes if _layer(graph, node)}
    convolutions = {name: n for name, n in layers.items() if isinstance(graph.get_submodule(name), nn.Conv2d)}
    made = {_result(node): name for name, node in convolutions.items()}
    found = {name + RESULT: value for value, name in made.items()}
    order = {name: place for place, name in enumerate(convolutions)}
    rounded = set(made)
    for node in graph.graph.nodes:
        if node.op == "call_function" and node.target is operator.add and set(node.args) <= rounded:
            added = [made[value] for value in node.args if value in made]
            if added:
                found[max(added, key=order.__getitem__) + SUM] = node
                rounded.add(node)
    inputs: dict[str, fx.Node] = {}
    for name, node in layers.items():
        value = _unpadded(node.args[0])
        if value not in rounded and value not in inputs.values():
            inputs[name] = value
    return found, inputs


def _layer(graph: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    return isinstance(graph.get_submodule(str(node.target)), nn.Conv2d | nn.Linear)


def _reads(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether ``node`` is a layer, or the padding before one."""
    return _layer(graph, node) or (_pads(node) and all(_layer(graph, user) for user in node.users))


def _result(node: fx.Node) -> fx.Node:
    readers = list(node.users)
    return readers[0] if len(readers) == 1 and readers[0].target in _BOUNDED else node


def _pads(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is F.pad


def _unpadded(value: fx.Node) -> fx.Node:
    """The value before the zeros that an uneven convolution adds, which its file's own padding is."""
    return value.args[0] if _pads(value) else value  # type: ignore[return-value]
