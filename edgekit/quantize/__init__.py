"""INT8 for onnxruntime: candidates are tried, what is too sensitive stays in float, the fastest good one wins."""

from __future__ import annotations

from edgekit.quantize.report import Candidate, QuantizeReport
from edgekit.quantize.run import quantize

__all__ = ["Candidate", "QuantizeReport", "quantize"]
