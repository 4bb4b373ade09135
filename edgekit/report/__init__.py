"""The report of a bundle: HTML, Markdown or plain data."""

from __future__ import annotations

from edgekit.report.data import read, read_all
from edgekit.report.html import html
from edgekit.report.markdown import markdown
from edgekit.report.write import write

__all__ = ["html", "markdown", "read", "read_all", "write"]
