"""verify tells what is wrong, and that all is well."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.bundle import Manifest, open_bundle, read_tensors, write, write_tensors
from edgekit.bundle.golden import Golden, Tolerance, read
from edgekit.errors import BundleError
from edgekit.runtimes import isa
from edgekit.runtimes.golden import differences


def failed(path: Path) -> dict[str, str]:
    report = edgekit.verify(path, threads=1)
    assert report.ok == (not any(not check.ok for check in report.checks))
    return {check.name: check.detail for check in report.checks if not check.ok}


def rewrite(source: Path, target: Path, changes: dict[str, bytes], **fields: object) -> Path:
    """A bundle with other content and right hashes."""
    bundle = open_bundle(source)
    files: dict[str, Path | bytes] = {entry.path: source / entry.path for entry in bundle.manifest.files}
    manifest = Manifest.from_dict({**bundle.manifest.to_dict(), **fields})
    write(target, manifest, files | changes)
    return target


@pytest.mark.parametrize("task", ["classify", "embed", "tag"])
def test_a_whole_bundle_passes(bundle_of: Callable[[str], Path], task: str) -> None:
    report = edgekit.verify(bundle_of(task))
    assert report.ok
    names = [check.name for check in report.checks]
    assert names[0] == "manifest"
    assert {"tokenizer", "outputs models/int8.onnx", "outputs models/fp32.onnx", "file models/int8.onnx"} <= set(names)
    assert "measured" in report.checks[-1].detail
    json.dumps(report.to_dict())


def test_every_damaged_file_is_named(small_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_bundle, tmp_path / "x.edge"))
    for name in ("tokenizer.json", "models/fp32.onnx"):
        (copy / name).write_bytes(b"?" * (copy / name).stat().st_size)
    assert list(failed(copy)) == ["file models/fp32.onnx", "file tokenizer.json"]


def test_another_tokenizer_is_found(small_bundle: Path, tmp_path: Path) -> None:
    changed = (small_bundle / "tokenizer.json").read_text().replace('"lowercase":true', '"lowercase":false')
    changed = changed.replace('"strip_accents":null', '"strip_accents":false')
    other = rewrite(small_bundle, tmp_path / "x.edge", {"tokenizer.json": changed.encode()})
    assert "naïve" in open_bundle(other).manifest.golden["texts"][4]
    assert "tokenizer" in failed(other)


def test_other_weights_are_found(bundle_of: Callable[[str], Path], tmp_path: Path) -> None:
    source = bundle_of("embed")
    model = bytearray((source / "models/fp32.onnx").read_bytes())
    start = len(model) * 17 // 20  # the embedding table comes first; this is within a layer's matrix
    model[start : start + 400_000] = bytes(400_000)
    other = rewrite(source, tmp_path / "x.edge", {"models/fp32.onnx": bytes(model)})
    assert list(failed(other)) == ["outputs models/fp32.onnx"]


def test_an_instruction_set_that_nobody_ran_gets_the_stated_tolerance(small_bundle: Path, tmp_path: Path) -> None:
    golden = open_bundle(small_bundle).manifest.golden
    for tolerance in golden["tolerances"]:
        if tolerance["isa"] == isa.detect():
            tolerance["isa"] = "somewhere-else"
    other = rewrite(small_bundle, tmp_path / "x.edge", {}, golden=golden)
    report = edgekit.verify(other)
    assert report.ok
    assert "stated" in report.checks[-1].detail


def test_a_bundle_without_golden_vectors_cannot_pass(small_bundle: Path, tmp_path: Path) -> None:
    assert list(failed(rewrite(small_bundle, tmp_path / "x.edge", {}, golden={}))) == ["golden vectors"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ids", "ids.lengths", "ids.windows", "outputs.models/int8.onnx", "rows.models/int8.onnx"]
)
def test_golden_tensors_that_do_not_fit(small_bundle: Path, tmp_path: Path, name: str) -> None:
    tensors = read_tensors(small_bundle / "golden.safetensors")
    for number, change in enumerate([None, tensors[name][:-1], tensors[name].astype(np.int64)]):
        spoiled = {key: value for key, value in tensors.items() if key != name}
        if change is not None:
            spoiled[name] = change
        data = {"golden.safetensors": write_tensors(spoiled)}
        assert failed(rewrite(small_bundle, tmp_path / f"{number}.edge", data))


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_golden_round_trip(task: str) -> None:
    shapes = [(3,)] * 2 if task == "classify" else [(4, 3), (0, 3)]
    outputs = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in shapes]
    tolerances = [Tolerance("m", "x86_64-avx2", 0.1, 0.9, "measured"), Tolerance("m", "*", 0.2, 0.8, "stated")]
    golden = Golden(["a", "b c"], [[[1, 2]], [[1, 3, 2], [1, 4, 2]]], {"m": outputs}, tolerances)
    found = read(golden.to_manifest(), golden.to_bytes(), task)
    assert (found.texts, found.ids, found.tolerances) == (golden.texts, golden.ids, golden.tolerances)
    for a, b in zip(found.outputs["m"], outputs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert found.tolerance("m", "x86_64-avx2").max_abs == 0.1
    assert found.tolerance("m", "aarch64-neon").basis == "stated"
    with pytest.raises(BundleError, match="no tolerance"):
        found.tolerance("other", "x")


def test_differences_see_shape_and_nan() -> None:
    a = [np.ones(3, np.float32)]
    assert differences(a, [np.ones(3, np.float32)]) == (0.0, pytest.approx(1.0))
    assert differences(a, [np.ones(2, np.float32)])[0] == np.inf
    assert differences(a, [np.array([1, np.nan, 1], np.float32)])[0] == np.inf
