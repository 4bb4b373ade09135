"""A trained encoder as a model file that an engine runs, with its distance from torch stated."""

from __future__ import annotations

from edgekit.export.onnx import ExportReport, export_onnx

__all__ = ["ExportReport", "export_onnx"]
