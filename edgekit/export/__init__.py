"""A trained encoder as a model file that an engine runs, with its distance from torch stated."""

from __future__ import annotations

from edgekit.export.onnx import export_onnx
from edgekit.export.parity import ExportReport

__all__ = ["ExportReport", "export_onnx"]
