"""Skips where a package is missing. It is looked for and not imported, which for some takes seconds in every worker."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(*packages: str, extra: str = "compress") -> None:
    """Skip the test, or the module that is being imported, unless all ``packages`` are installed."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"needs the package {package}: pip install edgekit[{extra}]", allow_module_level=True)
