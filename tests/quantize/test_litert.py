"""INT8 and float16 TFLite files of real layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import StageError
from edgekit.export import tflite
from edgekit.quantize import quantize
from edgekit.quantize.backend import Backend, Feed, Source, open_backend
from edgekit.recipe.stages import QuantizeConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.engines.litert import LiteRtEngine
from edgekit.runtimes.preprocess import TextPreprocessor
from tests.conftest import WORDS
from tests.needs import needs
from tests.quantize.ranks import MiniLm, pairs

from .conftest import CALIBRATION, HELD_OUT

needs("ai_edge_quantizer")

MATRICES = [
    *(f"layers.{i}.{part}" for i in (0, 1) for part in ("attention.qkv", "attention.out", "up", "down")),
    "classifier",
]


def _feeds(folder: Path, texts: list[str]) -> list[Feed]:
    windows = TextPreprocessor(folder / "tokenizer.json", artifact.read_spec(folder)).windows(texts)
    ids = [np.array([window.ids], np.int64) for window in windows]
    return [{"input_ids": each, "attention_mask": np.ones_like(each)} for each in ids]


def _backend(folder: Path, engine: str = "litert", embeddings_int8: bool = True) -> Backend:
    return open_backend(engine, Source(folder, folder, _feeds(folder, CALIBRATION), embeddings_int8, 0))


def _make(backend: Backend, name: str, out: Path, kept: set[str] | None = None) -> Path:
    ((label, make),) = backend.variants(name)
    assert label == name
    out.mkdir()
    size = backend.write(backend.keep_float(make(), kept or set()), out)
    assert size == (out / "model.tflite").stat().st_size
    return out / "model.tflite"


def _outputs(path: Path, folder: Path) -> np.ndarray:
    engine = LiteRtEngine(path, threads=1)
    return np.concatenate([engine.run(f["input_ids"], f["attention_mask"]) for f in _feeds(folder, HELD_OUT)])


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("engine", "name", "share", "error"),
    [
        ("litert", "dynamic", 0.265, 0.05),
        ("litert", "weight-only", 0.265, 0.03),
        ("litert", "static-a16", 0.265, 0.05),
        ("litert", "static", 0.265, 0.4),
        ("litert", "fp16", 0.51, 0.002),
        ("tflite-runtime", "weight-only", 0.265, 0.03),
        ("tflite-runtime", "static", 0.265, 0.4),
        ("tflite-runtime", "fp16", 0.51, 0.002),
    ],
)
def test_candidates_are_small_and_near_fp32(
    tiny_litert: Path, tmp_path: Path, engine: str, name: str, share: float, error: float
) -> None:
    path = _make(_backend(tiny_litert, engine), name, tmp_path / "one")
    assert path.stat().st_size < share * (tiny_litert / "model.tflite").stat().st_size
    lost = _error(_outputs(path, tiny_litert), _outputs(tiny_litert / "model.tflite", tiny_litert))
    assert 0 < lost < error


def test_equal_models_give_equal_bytes_and_print_nothing(
    tiny_litert: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    for name in ("dynamic", "static"):
        first = _make(_backend(tiny_litert), name, tmp_path / f"{name} 1").read_bytes()
        assert _make(_backend(tiny_litert), name, tmp_path / f"{name} 2").read_bytes() == first
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_matrices_have_their_modules_names(tiny_litert: Path) -> None:
    found = _backend(tiny_litert).matrices()
    assert list(found) == MATRICES
    assert found["layers.0.up"] == found["layers.1.down"] == 384 * 1536
    assert found["classifier"] == 3 * 384


@pytest.mark.parametrize("name", ["dynamic", "static", "weight-only"])
def test_what_is_kept_in_float_is_that_of_fp32(tiny_litert: Path, tmp_path: Path, name: str) -> None:
    backend = _backend(tiny_litert, embeddings_int8=False)
    expected = _outputs(tiny_litert / "model.tflite", tiny_litert)
    whole = _make(backend, name, tmp_path / "whole")
    part = _make(backend, name, tmp_path / "part", set(MATRICES) - {"layers.0.up"})
    none = _make(backend, name, tmp_path / "none", set(MATRICES))
    lost = [_error(_outputs(path, tiny_litert), expected) for path in (whole, part, none)]
    assert lost[0] > lost[1] > 0
    assert lost[2] < 1e-6
    assert whole.stat().st_size < part.stat().st_size < none.stat().st_size


def test_names_are_no_prefixes(tiny_litert: Path, tmp_path: Path) -> None:
    """``layers.0.up`` is not ``layers.0.upper``, and the dots are dots."""
    backend = _backend(tiny_litert)
    ((_, make),) = backend.variants("dynamic")
    regexes = {entry["regex"] for entry in backend.recipe(backend.keep_float(make(), {"layers.0.up"}))}  # type: ignore[attr-defined]
    assert regexes == {".*", r"/layers\.0\.up;$"}


def test_the_embedding_table_is_int8_once(tiny_litert: Path, tmp_path: Path) -> None:
    model = tflite.read(_make(_backend(tiny_litert), "dynamic", tmp_path / "one"))
    large = [len(b.data) for b in model.buffers if b.data is not None and len(b.data) >= WORDS * 384]
    assert large == [WORDS * 384]


def test_rows_of_zeros_stay_zeros(tiny_litert: Path, tmp_path: Path) -> None:
    from edgekit.quantize.tflite_edits import int8_rows

    model = tflite.read(tiny_litert / "model.tflite")
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.name.endswith(b"/word.weight"):
                model.buffers[tensor.buffer].data = np.zeros(WORDS * 384 * 4, np.uint8)
    tflite.write(model, tmp_path / "float.tflite")
    int8_rows(model)
    tflite.write(model, tmp_path / "int8.tflite")
    found = _outputs(tmp_path / "int8.tflite", tiny_litert)
    np.testing.assert_allclose(found, _outputs(tmp_path / "float.tflite", tiny_litert), atol=1e-5)


@pytest.mark.parametrize("name", ["dynamic", "static-a16"])
def test_what_tflite_runtime_answers_wrongly_is_not_made_for_it(tiny_litert: Path, name: str) -> None:
    ((_, make),) = _backend(tiny_litert, "tflite-runtime").variants(name)
    with pytest.raises(StageError, match=f"found {name}; expected static, weight-only, fp16"):
        make()


@pytest.mark.slow
def test_minilm_keeps_its_rank_correlation(to_rank: MiniLm, shared_data: Path, tmp_path: Path) -> None:
    """INT8 alone on six layers: Spearman on STS-B dev within 0.4 points of fp32, and faster."""
    from edgekit.export.litert import export_litert
    from edgekit.recipe.stages import ExportConfig

    fp32 = tmp_path / "fp32"
    report = export_litert(to_rank.torch, fp32, ExportConfig(), [16, 32, 64], CALIBRATION)
    assert report.cosine_min > 0.99999
    config = QuantizeConfig(litert_candidates=["dynamic"], float_layers=0, gate={"max_drop": 0.004})
    calibration = [row[0] for row in pairs(shared_data, "train")[:100]]
    made = quantize(fp32, to_rank.torch, tmp_path / "int8", config, calibration, to_rank.judge)
    chosen = next(c for c in made.candidates if c["chosen"])
    assert chosen["drop"] <= 0.004
    assert chosen["p50_ratio_to_fp32"] < 0.5
    assert chosen["size_bytes"] < 23_200_000
