"""The backend for TFLite files: ai-edge-quantizer's recipes, and edits for what it has no recipe for."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.utils import progress_utils, qsv_utils

from edgekit.errors import StageError
from edgekit.export import tflite
from edgekit.export.lengths import PREFIX
from edgekit.quantize.backend import Feed, Source
from edgekit.quantize.tflite_edits import float16_weights, int8_rows
from edgekit.runtimes.engines.litert import without_notes

_PRODUCT = qtyping.TFLOperationName.FULLY_CONNECTED
_CONVOLUTIONS = (qtyping.TFLOperationName.CONV_2D, qtyping.TFLOperationName.DEPTHWISE_CONV_2D)
_CALIBRATED = 64  # feeds; each takes tens of milliseconds, as every tensor of the graph is looked at
_IDS = "input_ids"
# Names of candidates: weights of products are INT8, one scale a row, in all but fp16; of convolutions likewise, one
# scale a channel, where there are any.
_RECIPES: dict[str, Callable[[recipe_manager.RecipeManager, Any], None]] = {
    "dynamic": lambda recipe, kind: recipe.add_dynamic_config(".*", kind, 8),
    "static": lambda recipe, kind: recipe.add_static_config(".*", kind, 8, 8),
    "static-a16": lambda recipe, kind: recipe.add_static_config(".*", kind, 16, 8),
    "weight-only": lambda recipe, kind: recipe.add_weight_only_config(".*", kind, 8),
    "fp16": lambda recipe, kind: None,
}
# tflite-runtime 2.14 knows one scale a matrix where activations are ranged at run time, and answers wrongly without a
# word where there is one a row.
_WRONG_IN_OLD = ("dynamic", "static-a16")


@dataclass(frozen=True)
class Plan:
    """A candidate and the matrices that it leaves in float. The file is made of it when it is written."""

    candidate: str
    kept: frozenset[str] = frozenset()


class LiteRtBackend:
    """Works on :class:`Plan`. ``engine``: litert, or tflite-runtime for files that 2.14 answers rightly too."""

    def __init__(self, source: Source, engine: str = "litert") -> None:
        self.engine = engine
        self._source = source.fp32 / "model.tflite"
        self._data = self._source.read_bytes()
        self._feeds, self._embeddings = source.feeds, source.embeddings_int8
        self._kinds = (_PRODUCT, *_CONVOLUTIONS) if source.kind == "convolution" else (_PRODUCT,)

    def variants(self, name: str) -> Iterator[tuple[str, Callable[[], Plan]]]:
        yield name, partial(self._plan, name)

    def _plan(self, name: str) -> Plan:
        able = [n for n in _RECIPES if self.engine == "litert" or n not in _WRONG_IN_OLD]
        if name not in able:
            raise StageError(f"candidate for {self.engine}", found=name, expected=", ".join(able))
        return Plan(name)

    def matrices(self) -> dict[str, int]:
        model = tflite.read(self._data)
        graph = model.subgraphs[0]
        found = {}
        for operator in graph.operators:
            if tflite.kind(model, operator) in {kind.value for kind in self._kinds}:
                weight = graph.tensors[operator.inputs[1]]
                if tflite.constant(model, weight) is not None:
                    name = weight.name.decode().partition("/")[2].removesuffix(".weight")
                    found[name] = int(np.prod(tflite.shape_of(weight)))
        return found

    def keep_float(self, model: Plan, names: set[str]) -> Plan:
        return replace(model, kept=model.kept | names)

    def recipe(self, model: Plan) -> list[dict[str, Any]]:
        """What ai-edge-quantizer is told, as its JSON. fp16 and the embedding table are made without it."""
        recipes = recipe_manager.RecipeManager()
        for kind in self._kinds:
            _RECIPES[model.candidate](recipes, kind)
        for name in sorted(model.kept):
            for kind in self._kinds:
                scope = f"/{re.escape(name)};$"
                recipes.add_quantization_config(scope, kind, algorithm_key=AlgorithmName.NO_QUANTIZE)
        found: list[dict[str, Any]] = recipes.get_quantization_recipe()
        return found

    def write(self, model: Plan, folder: Path) -> int:
        if model.candidate == "fp16":
            made = tflite.read(self._data)
            float16_weights(made, gathers=self.engine == "litert")
        else:
            made = tflite.read(self._quantized(self.recipe(model)))
            if self._embeddings:
                int8_rows(made)
        return tflite.write(made, folder / "model.tflite")

    def _quantized(self, recipe: list[dict[str, Any]]) -> bytes:
        made = quantizer.Quantizer(self._data, recipe)
        ranges = self._ranges if made.need_calibration else None
        with _quiet():
            result = made.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
        return bytes(result.quantized_model)

    @cached_property
    def _ranges(self) -> dict[str, Any]:
        """Smallest and largest value of every tensor over the calibration texts, the same for all lengths.

        A moving average instead of the extremes cuts off the logits of a classifier.
        """
        recipes = recipe_manager.RecipeManager()
        for kind in self._kinds:
            _RECIPES["static"](recipes, kind)
        graphs = [g.name.decode() for g in tflite.read(self._data).subgraphs]
        feeds = self._feeds[:_CALIBRATED]
        with _quiet():
            found = calibrator.Calibrator(self._data, 1, qsv_update_func=qsv_utils.min_max_update)
            found.calibrate(_padded(feeds, graphs) if _IDS in feeds[0] else {graphs[0]: feeds}, recipes)
        common: dict[str, dict[str, Any]] = {}
        for name, seen in found.get_model_qsvs().items():
            if "min" in seen:
                known = common.setdefault(name.partition("/")[2], dict(seen))
                known["min"], known["max"] = (
                    np.minimum(known["min"], seen["min"]),
                    np.maximum(known["max"], seen["max"]),
                )
        stems = [name.removeprefix(PREFIX) for name in graphs]
        return {f"{stem}/{name}": dict(seen) for stem in stems for name, seen in common.items()}


def _padded(feeds: list[Feed], graphs: list[str]) -> dict[str, list[Feed]]:
    """Feeds for each signature that has any, int32 (1, length), as the runtime pads them."""
    lengths = sorted(int(name.removeprefix(PREFIX)) for name in graphs)
    found: dict[str, list[Feed]] = {}
    for feed in feeds:
        length = next(n for n in lengths if n >= feed[_IDS].shape[1])
        room = ((0, 0), (0, length - feed[_IDS].shape[1]))
        padded = {name: np.pad(value, room).astype(np.int32) for name, value in feed.items()}
        found.setdefault(f"{PREFIX}{length}", []).append(padded)
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer warns of what it was told to do, and draws bars of its own."""
    was, bar = logging.root.manager.disable, progress_utils.ProgressBar
    logging.disable(logging.WARNING)
    progress_utils.ProgressBar = lambda *given, **named: bar(*given, **{**named, "enable": False})
    try:
        with warnings.catch_warnings(), without_notes():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(was)
        progress_utils.ProgressBar = bar
