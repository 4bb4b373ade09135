"""What NNCF makes of an OpenVINO model: static INT8 of its weight products, and weights alone in INT8."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.evaluate import parity
from edgekit.export.ir import Model, products
from edgekit.quantize.backend import Feed
from edgekit.runtimes.engines.openvino import import_openvino, silence

FEEDS = 128  # statistics are slow; with SmoothQuant at 0.75 all 300 texts gave MiniLM a cosine 0.0003 higher
SMOOTHING = (0.75, 0.5)  # SmoothQuant's alpha (Xiao et al. 2023, section 4), tried after NNCF's own 0.95
CONVOLUTION_FEEDS = 64  # pictures
NO_SMOOTHING = -1.0
CONTROL_FEEDS = 32  # texts that accuracy control runs for every product that it ranks or puts back
CONTROL_DROP = 0.001  # largest fall of the mean cosine to fp32 that it accepts


def static(model: Model, feeds: list[Feed], seed: int, reduced: bool = False, alpha: float | None = None) -> Model:
    """INT8 of all weight products: transformer type (SmoothQuant, bias correction), ranges from ``feeds``.

    ``alpha``: SmoothQuant's strength, None is NNCF's own; ``reduced``: weights of 7 bits, for processors whose INT8
    sums saturate. All else is ignored: OpenVINO's attention kernel has no INT8 form for the products of activations.
    """
    with _nncf() as library:
        np.random.seed(seed)
        made = library.quantize(
            model.clone(), library.Dataset(feeds[:FEEDS]), **_settings(model, feeds, reduced, alpha)
        )
        return made


def convolutional(model: Model, feeds: list[Feed], seed: int, reduced: bool = False, fast: bool = True) -> Model:
    """INT8 of a convolution network: weights symmetric, activations not (preset mixed), biases corrected.

    ``fast``: all biases in one pass, else one after the other. Without the transformer type, whose smoothing breaks
    such networks (measured: cosine -0.05 on a FastViT).
    """
    with _nncf() as library:
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

        np.random.seed(seed)
        given = feeds[:CONVOLUTION_FEEDS]
        return library.quantize(
            model.clone(),
            library.Dataset(given),
            preset=library.QuantizationPreset.MIXED,
            subset_size=len(given),
            fast_bias_correction=fast,
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE if reduced else OverflowFix.DISABLE
            ),
        )


def accuracy_controlled(model: Model, feeds: list[Feed], seed: int, reduced: bool = False) -> Model:
    """:func:`static` without smoothing, then products put back in float, those that cost most first, until the mean
    cosine to fp32 on some of ``feeds`` has fallen by no more than CONTROL_DROP.

    With smoothing, NNCF 3.4 puts the old weights back and leaves their inputs scaled: MiniLM's cosine fell to 0.23.
    """
    judged = feeds[:CONTROL_FEEDS]
    engine = import_openvino().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = {_key(feed): _rows(engine(feed)[0]) for feed in judged}

    def cosine(compiled: Any, items: Iterable[Feed]) -> tuple[float, list[float]]:
        each = [parity(expected[_key(feed)], _rows(compiled(feed)[0])).cosine_mean for feed in items]
        return float(np.mean(each)), each

    with _nncf() as library:
        np.random.seed(seed)
        settings = _settings(model, feeds, reduced, alpha=NO_SMOOTHING)
        return library.quantize_with_accuracy_control(
            model.clone(),
            library.Dataset(feeds[:FEEDS]),
            library.Dataset(judged),
            cosine,
            max_drop=CONTROL_DROP,
            advanced_quantization_parameters=settings.pop("advanced_parameters"),
            **settings,
        )


def weights_only(model: Model) -> Model:
    """INT8 weights, a scale and a zero point an output channel (on MiniLM 0.9997 of cosine; symmetric, 0.9996)."""
    with _nncf() as library:
        products_only = library.IgnoredScope(types=["Gather"], validate=False)
        mode = library.CompressWeightsMode.INT8_ASYM
        return library.compress_weights(model.clone(), mode=mode, ignored_scope=products_only)


def _key(feed: Feed) -> bytes:
    return b"".join(value.tobytes() for value in feed.values())


def _rows(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1, T, C) as (T, C)."""
    return output.reshape(-1, output.shape[-1])


def _settings(model: Model, feeds: list[Feed], reduced: bool, alpha: float | None) -> dict[str, Any]:
    import nncf as library
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        AdvancedSmoothQuantParameters,
        OverflowFix,
    )

    wanted = {node.get_name() for node in products(model).values()}
    others = [node for node in model.get_ops() if node.get_name() not in wanted]
    advanced = AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE if reduced else OverflowFix.DISABLE)
    if alpha is not None:
        advanced.smooth_quant_alphas = AdvancedSmoothQuantParameters(matmul=alpha)
    return {
        "model_type": library.ModelType.TRANSFORMER,
        "subset_size": len(feeds[:FEEDS]),
        "ignored_scope": library.IgnoredScope(
            names=sorted(node.get_friendly_name() for node in others if node.get_type_name() == "MatMul"),
            types=sorted({node.get_type_name() for node in others} - {"MatMul"}),
            validate=False,
        ),
        "advanced_parameters": advanced,
    }


@contextlib.contextmanager
def _nncf() -> Iterator[Any]:
    """The library, silent in every way: no telemetry, no progress bars, no line a layer."""
    silence()
    os.environ.setdefault("NNCF_CI", "1")  # in case another part of this process has its telemetry package
    import nncf

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    nncf.set_log_level(logging.ERROR)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            yield nncf
    finally:
        logging.disable(before)
