"""The three forms of a report as files, each whole or not there."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from edgekit.report.data import read
from edgekit.report.html import html
from edgekit.report.markdown import markdown


def write(bundle: Path, folder: Path) -> Path:
    """Write NAME.report.html, .md and .json of ``bundle`` (NAME.edge) into ``folder``; returns the HTML file.

    Older ones are replaced. Raises BundleError.
    """
    data = [read(bundle)]
    stem = bundle.resolve().stem
    folder.mkdir(parents=True, exist_ok=True)
    payload = {"schema_version": 1, "bundles": data}
    _put(folder / f"{stem}.report.md", markdown(data) + "\n")
    _put(folder / f"{stem}.report.json", json.dumps(payload, indent=2, ensure_ascii=False, default=str) + "\n")
    target = folder / f"{stem}.report.html"
    _put(target, html(data))
    return target


def _put(target: Path, text: str) -> None:
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, target)
