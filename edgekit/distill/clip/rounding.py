"""INT8 rounding inside the towers of a dual encoder, where the INT8 file of each rounds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from edgekit.distill import fake_quant
from edgekit.distill.clip import rounded_graph
from edgekit.distill.clip.efficientnet import EfficientNet
from edgekit.distill.clip.mci import Mci
from edgekit.distill.clip.text import BertTower, TextTransformer
from edgekit.distill.clip.towers import ImageTower, TextTower, build_image, build_text
from edgekit.distill.fake_quant import Ends, Rows
from edgekit.distill.ranges import SMALL, Ranges

Tower = ImageTower | TextTower


def observe(tower: Tower, inputs: Iterable[tuple[Tensor, ...]]) -> dict[str, Ends]:
    """The first range of every value of merged ``tower`` that is rounded: the mean extremes of ``inputs``, batch 1."""
    if isinstance(tower, Mci | EfficientNet):
        return rounded_graph.observe(tower, (picture for (picture,) in inputs))
    tower.eval()

    def run() -> None:
        for one in inputs:
            tower(*one)

    return fake_quant.observe(fake_quant.linears(tower), run)


def insert(tower: Tower, ends: dict[str, Ends]) -> Any:
    """``tower``, merged, with rounding from now on: itself, or what it turned into; ``ends`` as of :func:`observe`.

    Convolutions of a tower that is mostly products stay in float, as they do in its file.
    """
    if isinstance(tower, Mci | EfficientNet):
        return rounded_graph.insert(tower, ends)
    fake_quant.insert_products(fake_quant.linears(tower), ends)
    if isinstance(tower, TextTransformer | BertTower):
        _insert_tables(tower)
    return tower


def _insert_tables(tower: TextTransformer | BertTower) -> None:
    """Let the embedding tables round that are INT8 in the file: none that is small, or that is added as a whole."""
    encoder, length = (tower.encoder if isinstance(tower, BertTower) else tower), tower.config.context_length
    if encoder.word.weight.numel() >= SMALL:
        fake_quant.insert_words(encoder.word)
    if tower.config.fixed_length or length * encoder.word.embedding_dim < SMALL:
        return
    if isinstance(encoder, TextTransformer):
        parametrize.register_parametrization(encoder, "position", Rows())
    else:
        parametrize.register_parametrization(encoder.position, "weight", Rows())


def remove(tower: nn.Module) -> tuple[Tower, Ranges]:
    """What :func:`insert` rounds as a plain tower with the weights as they were trained, and its ranges by name."""
    config: Any = tower.config
    if isinstance(tower, fx.GraphModule):
        found = rounded_graph.ranges(tower)
    else:
        found = {name: one.input_range for name, one in fake_quant.linears(tower).items()}  # type: ignore[misc]
    state = {re.sub(r"parametrizations\.(\w+)\.original", r"\1", k): v for k, v in tower.state_dict().items()}
    text = isinstance(tower, TextTransformer | BertTower)
    plain: Tower = build_text(config) if text else build_image(config)
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain.eval(), {name: one.cpu().codes() for name, one in found.items()}
