"""Metrics with 95 % intervals, comparisons of two models on the same items, and latency measured in turns."""

from __future__ import annotations

from edgekit.evaluate.compare import Drop, Parity, agreement, paired_drop, parity
from edgekit.evaluate.metrics import Score, metric_name, score
from edgekit.evaluate.outputs import Outputs
from edgekit.evaluate.predictors import Predictor, RuntimePredictor, TorchPredictor, predict, spec_of
from edgekit.evaluate.timing import interleaved, percentiles

__all__ = [
    "Drop",
    "Outputs",
    "Parity",
    "Predictor",
    "RuntimePredictor",
    "Score",
    "TorchPredictor",
    "agreement",
    "interleaved",
    "metric_name",
    "paired_drop",
    "parity",
    "percentiles",
    "predict",
    "score",
    "spec_of",
]
