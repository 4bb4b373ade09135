"""What reads bundles has no words for running or unpickling what it reads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import edgekit.bundle
import edgekit.runtimes

FOLDERS = [Path(package.__file__ or "").parent for package in (edgekit.bundle, edgekit.runtimes)]
MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "runpy", "code", "yaml", "xml.etree", "urllib"}
CALLS = {"eval", "exec", "compile", "__import__"}
NUMPY = {"load", "loadtxt", "fromfile", "genfromtxt"}  # the first unpickles unless it is told not to


def found(source: str) -> list[str]:
    """Names of such modules and calls in ``source``."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            names.append(f"{node.func.id}()")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np":
            names += [f"np.{node.attr}"] if node.attr in NUMPY else []
    bad = {f"{name}()" for name in CALLS} | {f"np.{name}" for name in NUMPY} | MODULES
    return [name for name in names if name in bad or name.partition(".")[0] in MODULES]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_no_such_word(folder: Path) -> None:
    modules = sorted(folder.rglob("*.py"))
    assert len(modules) > 10
    assert {str(path): names for path in modules if (names := found(path.read_text()))} == {}


@pytest.mark.parametrize("source", ["import pickle", "from marshal import loads", "eval('1')", "np.load(x)", "exec(a)"])
def test_the_search_finds_them(source: str) -> None:
    assert found(source)
