"""Bundles that are damaged, abusive, or not bundles. Each is refused with a typed error that names the file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.bundle import open_bundle
from edgekit.errors import BundleError


@pytest.fixture
def copy(small_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to spoil. Hard links would let a test spoil the original, so it is a real copy."""
    return Path(shutil.copytree(small_bundle, tmp_path / "copy.edge"))


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads((root / "manifest.json").read_text())
    change(value)
    (root / "manifest.json").write_text(json.dumps(value))


def refused(root: Path, *named: str) -> str:
    """Refused by load and by verify, with every word of ``named`` in both messages; returns load's message."""
    with pytest.raises(BundleError) as caught:
        edgekit.load(root)
    report = edgekit.verify(root)
    assert not report.ok
    told = " | ".join(check.detail for check in report.checks if not check.ok)
    for word in named:
        assert word in str(caught.value)
        assert word in told
    return str(caught.value)


FILES = ["manifest.json", "tokenizer.json", "models/int8.onnx", "models/fp32.onnx", "golden.safetensors", "recipe.yaml"]


@pytest.mark.parametrize("name", FILES)
def test_missing(copy: Path, name: str) -> None:
    (copy / name).unlink()
    refused(copy, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncated(copy: Path, name: str, keep: float) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: int(len(data) * keep)])
    refused(copy, name)


@pytest.mark.parametrize("name", [*FILES[1:], "LICENSES.md"])
def test_flipped_bits(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    for part in range(5):
        damaged = bytearray(data)
        damaged[part * (len(data) - 1) // 4] ^= 1 << part
        (copy / name).write_bytes(damaged)
        with pytest.raises(BundleError, match="damaged") as caught:
            open_bundle(copy)
        assert name in str(caught.value)
    assert not edgekit.verify(copy).ok


@pytest.mark.parametrize("name", FILES)
def test_symbolic_link_even_to_the_same_content(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).rename(tmp_path / "outside")
    (copy / name).symlink_to(tmp_path / "outside")
    refused(copy, name, "symbolic link")


def test_symbolic_link_as_folder(copy: Path, tmp_path: Path) -> None:
    (copy / "models").rename(tmp_path / "models")
    (copy / "models").symlink_to(tmp_path / "models")
    refused(copy, "models", "symbolic link")


def test_named_pipe_does_not_hang(copy: Path) -> None:
    (copy / "models/int8.onnx").unlink()
    os.mkfifo(copy / "models/int8.onnx")
    refused(copy, "models/int8.onnx")
    (copy / "manifest.json").unlink()
    os.mkfifo(copy / "manifest.json")
    refused(copy, "manifest.json")


@pytest.mark.parametrize("extra", ["models/extra.onnx", "notes.txt", ".hidden", "deep/er/x"])
def test_extra_file(copy: Path, extra: str) -> None:
    (copy / extra).parent.mkdir(parents=True, exist_ok=True)
    (copy / extra).write_bytes(b"x")
    refused(copy, extra.split("/")[0], "extra")


@pytest.mark.parametrize("path", ["../outside.onnx", "/etc/passwd", "models/../../x", "models\\x", "C:/x", "a\x00b"])
def test_path_that_escapes(copy: Path, path: str) -> None:
    def change(value: dict[str, Any]) -> None:
        value["files"][1]["path"] = value["models"][0]["path"] = path

    edit(copy, change)
    refused(copy, "manifest.json", "path")


def test_file_asks_for_listed_names_only(small_bundle: Path) -> None:
    bundle = open_bundle(small_bundle)
    for name in ("../x", "/etc/passwd", "manifest.json", "models"):
        with pytest.raises(BundleError, match="not listed"):
            bundle.file(name)


def test_newer_version(copy: Path) -> None:
    edit(copy, lambda value: value.update(schema_version=2))
    refused(copy, "schema_version", "newer edgekit")


def test_duplicate_key(copy: Path) -> None:
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace('"schema_version"', '"schema_version": 1, "schema_version"', 1))
    refused(copy, "manifest.json", "twice")


def test_hash_that_matches_a_file_that_is_no_model(copy: Path) -> None:
    """Damage with a forged hash passes the hash; the engine and the golden vectors still stop it."""
    import hashlib

    data = b"not a model"
    (copy / "models/int8.onnx").write_bytes(data)

    def change(value: dict[str, Any]) -> None:
        entry = next(e for e in value["files"] if e["path"] == "models/int8.onnx")
        entry.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))

    edit(copy, change)
    report = edgekit.verify(copy)
    assert [check.name for check in report.checks if not check.ok] == ["outputs models/int8.onnx"]


@pytest.mark.parametrize("kind", ["nothing", "file", "empty folder", "loop", "long", "nul"])
def test_what_is_no_bundle(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.edge"
    if kind == "file":
        path.write_text("hello")
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "long":
        path = tmp_path / ("x" * 5000)
    elif kind == "nul":
        path = tmp_path / "x\0.edge"
    with pytest.raises(BundleError):
        edgekit.load(path)
    assert not edgekit.verify(path).ok


def test_a_link_to_the_whole_bundle_is_fine(small_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(small_bundle)  # how deployments switch versions
    assert edgekit.load(tmp_path / "current", threads=1).run("fine").labels
