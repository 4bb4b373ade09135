"""The adapter for LiteRT: buckets, threads, files that are none of ours, silence."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import EngineError, MissingDependencyError
from edgekit.runtimes import artifact, engines
from edgekit.runtimes.engines.litert import LiteRtEngine, TfliteRuntimeEngine, without_notes
from tests.conftest import WORDS


def _text(length: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(1000, WORDS, (1, length), dtype=np.int64)
    return ids, np.ones_like(ids)


def test_padding_changes_no_answer(tiny_litert: Path) -> None:
    engine = LiteRtEngine(tiny_litert / "model.tflite", threads=1)
    ids, mask = _text(10)
    alone = engine.run(ids, mask)
    assert alone.shape == (1, 3)
    assert alone.dtype == np.float32
    for room in (0, 6, 20, 54):  # buckets 16, 32 and 64
        padded = [np.pad(part, ((0, 0), (0, room))) for part in (ids, mask)]
        np.testing.assert_allclose(engine.run(*padded), alone, atol=1e-5)
    engine.run(*_text(16, 1))  # nothing of a longer text stays in the bucket
    np.testing.assert_array_equal(engine.run(ids, mask), alone)


def test_rows_of_a_batch_are_answered_one_by_one(tiny_litert: Path) -> None:
    engine = LiteRtEngine(tiny_litert / "model.tflite", threads=2)
    assert not engine.batching
    assert engine.output_width == 3
    rows = [_text(20, seed) for seed in range(5)]
    together = engine.run(np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows]))
    np.testing.assert_array_equal(together, np.concatenate([engine.run(*row) for row in rows]))


def test_a_text_beyond_the_largest_bucket_is_an_error(tiny_litert: Path) -> None:
    engine = LiteRtEngine(tiny_litert / "model.tflite", threads=1)
    with pytest.raises(EngineError, match="found 65; expected at most 64"):
        engine.run(*_text(65))
    assert np.isfinite(engine.run(*_text(64))).all()  # and it still serves


def test_threads_get_the_answers_that_one_gets(tiny_litert: Path) -> None:
    engine = LiteRtEngine(tiny_litert / "model.tflite", threads=1)
    texts = [_text(length, length) for length in (3, 16, 17, 40, 64, 9, 33, 5)]
    expected = [engine.run(*text) for text in texts]
    fresh = LiteRtEngine(tiny_litert / "model.tflite", threads=1)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found, answer in zip(pool.map(lambda text: fresh.run(*text), texts), expected, strict=True):
                np.testing.assert_array_equal(found, answer)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "absent"])
def test_a_damaged_file_is_an_engine_error(tiny_litert: Path, tmp_path: Path, damage: str) -> None:
    data = (tiny_litert / "model.tflite").read_bytes()
    path = tmp_path / "model.tflite"
    if damage != "absent":
        path.write_bytes({"cut": data[:100_000], "garbage": b"\x00\x01TFL3" * 5000, "empty": b""}[damage])
    with pytest.raises(EngineError, match=r"cannot (load|run) model\.tflite"):
        LiteRtEngine(path, threads=1)


def test_a_file_with_other_inputs_or_outputs_is_an_engine_error(tiny_litert: Path) -> None:
    path = tiny_litert / "model.tflite"
    with pytest.raises(EngineError, match=r"inputs of model\.tflite; found \['attention_mask', 'input_ids'\]"):
        LiteRtEngine(path, 1, ("ids", "mask"))
    with pytest.raises(EngineError, match=r"outputs of model\.tflite; found \['logits'\]; expected embeddings"):
        LiteRtEngine(path, 1, output="embeddings")
    assert LiteRtEngine(path, 1, output="logits").output_width == 3


def test_signatures_of_another_kind_are_an_engine_error(tiny_litert: Path, tmp_path: Path) -> None:
    data = (tiny_litert / "model.tflite").read_bytes()
    (tmp_path / "other.tflite").write_bytes(data.replace(b"tokens_32", b"serving__"))
    with pytest.raises(EngineError, match=r"signature of other\.tflite; found serving__; expected tokens_<length>"):
        LiteRtEngine(tmp_path / "other.tflite", threads=1)


@pytest.mark.parametrize(
    ("engine", "package", "fix"),
    [
        (LiteRtEngine, "ai_edge_litert", r"pip install edgekit\[litert\]"),
        (TfliteRuntimeEngine, "tflite_runtime", "pip install tflite-runtime"),
    ],
)
def test_a_missing_package_says_what_to_install(
    engine: type[LiteRtEngine], package: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=fix):
        engine(Path("model.tflite"), threads=1)


def test_both_runtimes_read_each_others_files() -> None:
    assert engines.readers("litert") == ["litert", "tflite-runtime"]
    assert engines.readers("tflite-runtime") == ["tflite-runtime", "litert"]


def test_an_artifact_answers_texts(tiny_litert: Path) -> None:
    model = artifact.load(tiny_litert, threads=1)
    assert model.engine == "litert"
    answer = model.classify(["a charming, funny film", "no " * 300])  # the second takes several windows
    assert len(answer.labels) == 2


def test_loading_is_silent(tiny_litert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    LiteRtEngine(tiny_litert / "model.tflite", threads=1).run(*_text(5))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_only_notes_are_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with without_notes():
        os.write(2, b"INFO: made a delegate\nERROR: a node failed\n")
    os.write(2, b"INFO: said later\n")
    assert capfd.readouterr().err == "ERROR: a node failed\nINFO: said later\n"
