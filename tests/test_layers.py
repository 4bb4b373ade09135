"""The architecture holds: which way a part may look, and that the links at the top lead where they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LINKS = ("devices", "distill", "quantize", "runtimes")


def test_parts_look_only_down(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize("name", LINKS)
def test_links_at_the_top(root: Path, name: str) -> None:
    assert (root / name).is_symlink()
    assert (root / name).resolve() == (root / "edgekit" / name).resolve()


def test_only_edgekit_is_packaged(root: Path) -> None:
    from setuptools import find_packages

    found = find_packages(str(root), include=["edgekit", "edgekit.*"])
    assert "edgekit.runtimes.engines" in found
    assert not set(LINKS) & set(found)
    missing = [
        str(folder.relative_to(root))
        for folder in (root / "edgekit").rglob("*")
        if folder.is_dir() and any(folder.glob("*.py")) and not (folder / "__init__.py").exists()
    ]
    assert missing == [], "a folder without __init__.py would not be packaged"


def test_files_stay_short(root: Path) -> None:
    long = {
        str(path.relative_to(root)): lines
        for path in (root / "edgekit").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert long == {}
