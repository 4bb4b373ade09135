"""What is built ahead: OpenVINO's compiled models for real, TensorRT's engines as far as they are asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.bundle import open_bundle, problems
from edgekit.cache import private
from edgekit.errors import InputError
from edgekit.progress import Silent
from edgekit.runtimes.engines.openvino_cache import folder_of, prepared
from edgekit.runtimes.prepare import BUILT, FAILED, NOTHING, THERE, prepare
from tests.runtimes import tiny
from tests.runtimes.stand_in import StandIn, install

TEXT = "a charming film"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny.bundle(tmp_path / "tiny.edge", openvino=True)


def cached(bundle: Path) -> bool:
    """Whether OpenVINO took the model from its cache, by its own word."""
    from edgekit.runtimes.engines.openvino import import_openvino

    folder = prepared(bundle / tiny.XML, import_openvino().__version__)
    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    settings |= {"INFERENCE_PRECISION_HINT": "f32", "CACHE_DIR": folder}
    compiled = import_openvino().Core().compile_model(str(bundle / tiny.XML), "CPU", settings)
    return bool(compiled.get_property("LOADED_FROM_CACHE"))


def test_each_file_is_told_what_was_done_and_why(bundle: Path, cache: Path) -> None:
    onnx, xml = prepare(bundle)
    assert (onnx.file, onnx.did) == (tiny.ONNX, NOTHING)
    assert "as it lies" in onnx.why and "no provider for a GPU" in onnx.why
    assert (xml.file, xml.did) == (tiny.XML, BUILT)
    assert Path(xml.folder).parent == cache / "openvino" and xml.bytes > 0
    assert all(isinstance(one, float) and one > 0 for one in (xml.seconds, xml.before_ms, xml.after_ms))
    assert [one.did for one in prepare(bundle)] == [NOTHING, THERE]
    assert prepare(bundle, rebuild=True)[1].did == BUILT
    opened = open_bundle(bundle)
    assert not any(problems(bundle, opened.manifest).values())


def test_a_load_reads_what_was_prepared_and_answers_the_same(bundle: Path) -> None:
    before = edgekit.load(bundle, engine="openvino", threads=1).logits([TEXT])
    assert not (edgekit.cache.cache_dir() / "openvino").exists()  # nothing is built that nobody asked for
    prepare(bundle)
    assert cached(bundle)
    np.testing.assert_array_equal(edgekit.load(bundle, engine="openvino", threads=1).logits([TEXT]), before)
    np.testing.assert_allclose(edgekit.load(bundle, engine="openvino", threads=2).logits([TEXT]), before, atol=1e-5)


@pytest.mark.parametrize("damage", ["nothing", "half", "zeros", "another's"])
def test_a_damaged_cache_costs_time_and_no_answer(bundle: Path, tmp_path: Path, damage: str) -> None:
    expected = edgekit.load(bundle, engine="openvino", threads=1).logits([TEXT])
    prepare(bundle)
    (blob,) = Path(prepare(bundle)[1].folder).iterdir()
    whole = blob.read_bytes()
    other = tiny.bundle(tmp_path / "other.edge", seed=1, openvino=True)
    (strange,) = Path(prepare(other)[1].folder).iterdir()
    found = {"nothing": b"", "half": whole[: len(whole) // 2], "zeros": bytes(len(whole))}
    blob.write_bytes(found.get(damage, strange.read_bytes()))
    assert (edgekit.load(bundle, engine="openvino", threads=1).logits([TEXT]) == expected).all()


def test_a_changed_file_or_another_place_is_not_found(bundle: Path, tmp_path: Path) -> None:
    version = "2026.4.1-1-abc-releases/2026/4"
    first = folder_of(bundle / tiny.XML, version)
    assert "/" not in first.name and first.name.startswith("2026.4.1-")
    shutil.copytree(bundle, tmp_path / "moved.edge")
    assert folder_of(tmp_path / "moved.edge" / tiny.XML, version) != first
    weights = bundle / "models/fp32.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    assert folder_of(bundle / tiny.XML, version) != first
    assert prepared(bundle / tiny.XML, version) == ""


def test_a_folder_that_others_can_write_is_not_used(bundle: Path, cache: Path) -> None:
    prepare(bundle)
    cache.chmod(0o777)
    with pytest.raises(InputError, match=r"others can write; expected your own\. chmod o-w"):
        private(cache / "openvino" / "x")
    from edgekit.runtimes.engines.openvino import import_openvino

    assert prepared(bundle / tiny.XML, import_openvino().__version__) == ""
    assert edgekit.load(bundle, engine="openvino", threads=1).file == tiny.XML
    assert [one.did for one in prepare(bundle, rebuild=True)] == [NOTHING, FAILED]


def test_private_folders_are_for_one_user(cache: Path) -> None:
    assert os.stat(private(cache / "a" / "b")).st_mode & 0o777 == 0o700


def test_asked_for_a_gpu_it_says_what_is_missing(bundle: Path) -> None:
    onnx, xml = prepare(bundle, device="gpu")
    assert (onnx.did, onnx.device) == (NOTHING, "gpu")
    assert "pip install onnxruntime-gpu" in onnx.why
    assert xml.did == BUILT


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_tensorrts_engine_is_built_once_and_labelled_as_not_run_here(
    bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, StandIn())
    told = Lines()
    onnx = prepare(bundle, device="gpu", progress=told)[0]
    assert (onnx.did, onnx.device) == (BUILT, "gpu")
    assert "not run by edgekit's makers" in onnx.why
    assert Path(onnx.folder).parent == cache / "tensorrt" and onnx.bytes > 0
    assert [line for line in told.lines if "tokens" in line] == [
        f"{tiny.ONNX}: TensorRT's engine for 1 to 32 tokens",
        f"{tiny.ONNX}: running 1 tokens",
        f"{tiny.ONNX}: running 32 tokens",
    ]
    assert prepare(bundle, device="gpu")[0].did == THERE
    assert (bundle / tiny.ONNX).is_file()
