"""Metrics with 95 % intervals, comparisons of two models on the same items, and latency measured in turns."""

from __future__ import annotations

from edgekit.evaluate.closeness import closeness, closeness_drop
from edgekit.evaluate.compare import Drop, Parity, agreement, paired_drop, parity
from edgekit.evaluate.dual_predictor import DualRuntimePredictor
from edgekit.evaluate.metrics import Score, metric_name, score
from edgekit.evaluate.outputs import Outputs
from edgekit.evaluate.predictors import Predictor, RuntimePredictor, TorchPredictor, predict, spec_of
from edgekit.evaluate.retrieval import Retrieval, class_search, retrieval_drop, retrieval_scores, retrieve
from edgekit.evaluate.zero_shot import confusion, similarities, zero_shot_drop, zero_shot_scores
from edgekit.runtimes.timing import interleaved, percentiles

__all__ = [
    "Drop",
    "DualRuntimePredictor",
    "Outputs",
    "Parity",
    "Predictor",
    "Retrieval",
    "RuntimePredictor",
    "Score",
    "TorchPredictor",
    "agreement",
    "class_search",
    "closeness",
    "closeness_drop",
    "confusion",
    "interleaved",
    "metric_name",
    "paired_drop",
    "parity",
    "percentiles",
    "predict",
    "retrieval_drop",
    "retrieval_scores",
    "retrieve",
    "score",
    "similarities",
    "spec_of",
    "zero_shot_drop",
    "zero_shot_scores",
]
