"""The adapter for OpenVINO: answers, inputs, threads, errors, and that nothing calls home."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.errors import EngineError, MissingDependencyError
from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine
from edgekit.runtimes.engines.openvino import OpenVinoEngine, import_openvino
from tests.conftest import WORDS

TEXTS = ["a funny film", "dull", "", "it never quite takes off , but one laughs " * 30, "日本語"]


@pytest.fixture
def xml(two_engines: Path) -> Path:
    return two_engines / "models" / "fp32.xml"


def batch(rows: int, length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    ids = random.integers(1000, WORDS, (rows, length), dtype=np.int64)
    mask = (np.arange(length)[None] < random.integers(1, length + 1, (rows, 1))).astype(np.int64)
    return ids, mask


def rewritten(source: Path, target: Path, change: str) -> Path:
    """``source`` as a model whose inputs stand in the other order, or are int32."""
    openvino = import_openvino()
    model = openvino.Core().read_model(str(source))
    if change == "order":
        model = openvino.Model(model.get_results(), model.get_parameters()[::-1], "other")
    else:
        steps = openvino.preprocess.PrePostProcessor(model)
        for name in ("input_ids", "attention_mask"):
            steps.input(name).tensor().set_element_type(openvino.Type.i32)
        model = steps.build()
    openvino.save_model(model, target, compress_to_fp16=False)
    return target


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 64), (2, 17)])
def test_it_answers_like_onnxruntime(two_engines: Path, xml: Path, shape: tuple[int, int]) -> None:
    ids, mask = batch(*shape)
    expected = OnnxRuntimeEngine(two_engines / "models" / "fp32.onnx", threads=1).run(ids, mask)
    engine = OpenVinoEngine(xml, threads=1)
    found = engine.run(ids, mask)
    assert found.dtype == np.float32
    assert engine.output_width == found.shape[-1] == 3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_texts_to_classes(two_engines: Path) -> None:
    model = edgekit.load(two_engines, engine="openvino", threads=1)
    assert (model.engine, model.engine_version) == ("openvino", import_openvino().__version__)
    other = edgekit.load(two_engines, engine="onnxruntime", threads=1)
    np.testing.assert_allclose(model.logits(TEXTS), other.logits(TEXTS), atol=1e-4)


@pytest.mark.parametrize("change", ["order", "int32"])
def test_inputs_go_by_name_and_in_the_files_own_type(xml: Path, tmp_path: Path, change: str) -> None:
    ids, mask = batch(2, 9)
    other = OpenVinoEngine(rewritten(xml, tmp_path / "other.xml", change), threads=1)
    np.testing.assert_allclose(other.run(ids, mask), OpenVinoEngine(xml, threads=1).run(ids, mask), atol=1e-6)


def test_any_memory_layout_will_do(xml: Path) -> None:
    engine = OpenVinoEngine(xml, threads=1)
    ids, mask = batch(2, 9)
    expected = engine.run(ids, mask)
    wide = np.concatenate([ids, ids], axis=1)
    frozen = mask.copy()
    frozen.setflags(write=False)
    assert (engine.run(wide[:, :9], frozen) == expected).all()
    assert (engine.run(np.asfortranarray(ids), mask) == expected).all()


def test_an_answer_is_the_callers_own(xml: Path) -> None:
    engine = OpenVinoEngine(xml, threads=1)
    first = engine.run(*batch(1, 5))
    kept = first.copy()
    engine.run(*batch(1, 5, seed=1))
    assert (first == kept).all()
    first[:] = 0
    assert (engine.run(*batch(1, 5)) == kept).all()


def test_several_threads_get_their_own_answers(xml: Path) -> None:
    engine = OpenVinoEngine(xml, threads=1)
    cases = [batch(1 + seed % 3, 3 + seed, seed) for seed in range(24)]
    expected = [engine.run(*case) for case in cases]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for found, right in zip(pool.map(lambda case: engine.run(*case), cases), expected, strict=True):
                np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_input_that_does_not_fit_is_an_error_and_not_the_last_answer(xml: Path, threads: int) -> None:
    engine = OpenVinoEngine(xml, threads=threads)
    expected = engine.run(*batch(1, 64))
    with pytest.raises(EngineError, match=r"shape \(1, 65\).*Add"):  # the position table has 64 rows
        engine.run(*batch(1, 65))
    assert (engine.run(*batch(1, 64)) == expected).all()


def test_names_that_are_not_there(xml: Path) -> None:
    with pytest.raises(EngineError, match=r"inputs of fp32\.xml; found .*attention_mask.*; expected .*tokens"):
        OpenVinoEngine(xml, 1, ("tokens", "attention_mask"))
    with pytest.raises(EngineError, match=r"outputs of fp32\.xml; found logits f32; expected scores f32"):
        OpenVinoEngine(xml, 1, output="scores")
    assert OpenVinoEngine(xml, 1, output="logits").output_width == 3


@pytest.mark.parametrize("damage", ["no weights", "short weights", "not xml", "cut xml", "nothing"])
def test_damaged_files(xml: Path, tmp_path: Path, damage: str) -> None:
    for name in ("fp32.xml", "fp32.bin"):
        shutil.copyfile(xml.parent / name, tmp_path / name)
    text, weights = (tmp_path / name for name in ("fp32.xml", "fp32.bin"))
    if damage == "no weights":
        weights.unlink()
    elif damage == "short weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "nothing":
        text.unlink()
    else:
        text.write_bytes(b"\0" * 100 if damage == "not xml" else text.read_bytes()[:2000])
    with pytest.raises(EngineError, match=r"openvino cannot load fp32\.xml; found \S"):
        OpenVinoEngine(text, threads=1)


def test_without_the_package_the_error_says_what_to_install(xml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install edgekit\[openvino\]"):
        OpenVinoEngine(xml, threads=1)


QUIET = """
import sys
from pathlib import Path
from edgekit.runtimes.engines.openvino import OpenVinoEngine
OpenVinoEngine(Path(sys.argv[1]), threads=1)
assert "openvino.tools.ovc" not in sys.modules
from openvino import convert_model
assert callable(convert_model)
assert not hasattr(sys.modules["openvino"], "nonsense")
"""
TOO_LATE = """
import openvino_telemetry
from openvino_telemetry.main import TelemetrySender
sent = []
TelemetrySender.send = lambda *message: sent.append(message)
from edgekit.runtimes.engines.openvino import import_openvino
import_openvino()
from openvino import convert_model
assert not sent, sent
"""


@pytest.mark.parametrize("script", [QUIET, TOO_LATE], ids=["first", "after its telemetry"])
def test_nothing_calls_home(script: str, xml: Path, tmp_path: Path) -> None:
    """OpenVINO sends as soon as it is imported, and leaves a folder ``intel`` with an identity for it."""
    command = [sys.executable, "-c", script, str(xml)]
    done = subprocess.run(command, env={"HOME": str(tmp_path), "PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if script == QUIET:
        assert list(tmp_path.iterdir()) == []
