"""INT8 for OpenVINO, on two real layers: what is rounded, what comes back in float, what is written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgekit.errors import ModelError
from edgekit.evaluate import parity
from edgekit.export.ir import Model, name_nodes, products, save, source, weight_of
from edgekit.export.openvino import export_openvino, from_torch
from edgekit.quantize import openvino_nncf, qat, quantize
from edgekit.quantize.backend import Feed, Source
from edgekit.quantize.ir_graph import with_ranges
from edgekit.quantize.openvino import OpenVinoBackend
from edgekit.recipe.stages import ExportConfig, QuantizeConfig
from edgekit.runtimes import artifact
from edgekit.runtimes.engines.openvino import OpenVinoEngine, import_openvino
from edgekit.runtimes.preprocess import TextPreprocessor
from tests.conftest import WORDS
from tests.quantize.ranks import MiniLm, pairs

from .conftest import CALIBRATION, HELD_OUT
from .conftest import outputs as onnx_outputs

PRODUCTS = [f"layers.{i}.{part}" for i in (0, 1) for part in ("attention.qkv", "attention.out", "up", "down")]
RANGES = dict.fromkeys(PRODUCTS, (0.05, 128))


@pytest.fixture(scope="module")
def fp32_ir(fp32_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``fp32_folder``'s encoder as an artifact for OpenVINO. Shared: do not write to it."""
    out = tmp_path_factory.mktemp("ir")
    model = from_torch(fp32_folder.parent / "torch")
    name_nodes(model, "embeddings")
    save(model, out)
    (out / "tokenizer.json").write_bytes((fp32_folder / "tokenizer.json").read_bytes())
    artifact.write(out, artifact.read_spec(fp32_folder), "openvino", "fp32")
    return out


@pytest.fixture(scope="module")
def feeds(fp32_ir: Path) -> list[Feed]:
    windows = TextPreprocessor(fp32_ir / "tokenizer.json", artifact.read_spec(fp32_ir)).windows(CALIBRATION + HELD_OUT)
    return [{"input_ids": np.array([w.ids]), "attention_mask": np.ones((1, len(w.ids)), np.int64)} for w in windows]


def backend_of(folder: Path, feeds: list[Feed], **more: Any) -> OpenVinoBackend:
    return OpenVinoBackend(Source(folder, folder, feeds, **{"embeddings_int8": True, "seed": 0, **more}))


@pytest.fixture(scope="module")
def backend(fp32_ir: Path, feeds: list[Feed]) -> OpenVinoBackend:
    return backend_of(fp32_ir, feeds[: len(CALIBRATION)])


@pytest.fixture(scope="module")
def static(backend: OpenVinoBackend) -> Model:
    """Shared: do not change it."""
    return next(iter(backend.variants("nncf")))[1]()


def outputs(model: Model | Path, feeds: list[Feed], folder: Path, precision: str = "w8a8") -> np.ndarray:
    """What ``model``, or the one in a folder, gives for each feed, as rows."""
    if not isinstance(model, Path):
        save(model, folder)
        model = folder
    engine = OpenVinoEngine(model / "model.xml", threads=1, precision=precision)
    return np.concatenate([engine.run(feed["input_ids"], feed["attention_mask"]) for feed in feeds])


def rounded(model: Model) -> set[str]:
    """Products whose input is rounded to INT8 in the file and whose weights are INT8."""
    found = products(model)
    return {
        name
        for name, node in found.items()
        if source(node, 0).get_type_name() == "FakeQuantize" and _type(weight_of(node)) == "i8"
    }


def _type(node: Any) -> str:
    return str(node.get_element_type().get_type_name())


def test_all_products_and_tables_are_int8_and_nothing_else(
    backend: OpenVinoBackend, static: Model, fp32_ir: Path, feeds: list[Feed], tmp_path: Path
) -> None:
    assert rounded(static) == set(PRODUCTS) == set(backend.matrices())
    assert backend.matrices()["layers.0.attention.qkv"] == 384 * 1152
    kinds = Counter(node.get_type_name() for node in static.get_ops())
    assert kinds["FakeQuantize"] == len(PRODUCTS)
    size = backend.write(static, tmp_path)
    assert size == sum((tmp_path / name).stat().st_size for name in ("model.xml", "model.bin"))
    assert size < 0.27 * (fp32_ir / "model.bin").stat().st_size
    floats = [node for node in static.get_ops() if node.get_type_name() == "Constant" and _type(node) == "f32"]
    assert max(np.prod(list(node.shape)) for node in floats) <= WORDS  # the table's scales
    near = parity(outputs(fp32_ir, feeds, tmp_path), outputs(tmp_path, feeds, tmp_path))
    assert near.cosine_mean > 0.99


def test_lengths_and_batches_stay_free(static: Model, feeds: list[Feed], tmp_path: Path) -> None:
    alone = outputs(static, feeds, tmp_path)
    longest = max(feed["input_ids"].shape[1] for feed in feeds)
    padded = [np.pad(feed["input_ids"], ((0, 0), (0, longest - feed["input_ids"].shape[1]))) for feed in feeds]
    ids = np.concatenate(padded)
    together = OpenVinoEngine(tmp_path / "model.xml", threads=1).run(ids, (ids != 0).astype(np.int64))
    assert parity(alone, together).cosine_min > 0.999  # each text keeps its own answer


@pytest.mark.slow
def test_the_same_texts_give_the_same_bytes(backend: OpenVinoBackend, static: Model, tmp_path: Path) -> None:
    again = next(iter(backend.variants("nncf")))[1]()
    for name, model in (("first", static), ("second", again)):
        backend.write(model, tmp_path / name)
    for file in ("model.xml", "model.bin"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nncf", "dynamic", "ranges"])
def test_everything_back_in_float_is_fp32(kind: str, fp32_ir: Path, feeds: list[Feed], tmp_path: Path) -> None:
    backend = backend_of(fp32_ir, feeds, embeddings_int8=False)
    made = with_ranges(backend.base, RANGES) if kind == "ranges" else next(iter(backend.variants(kind)))[1]()
    expected = outputs(fp32_ir, feeds, tmp_path)
    assert np.abs(outputs(made, feeds, tmp_path / "int8") - expected).max() > 1e-3
    back = backend.keep_float(made, set(PRODUCTS))
    np.testing.assert_allclose(outputs(back, feeds, tmp_path / "back"), expected, atol=1e-6)


def test_one_product_stays_int8_when_the_others_are_kept_in_float(
    backend: OpenVinoBackend, static: Model, feeds: list[Feed], tmp_path: Path
) -> None:
    part = backend.keep_float(static, set(PRODUCTS) - {"layers.1.down"})
    assert rounded(part) == {"layers.1.down"}
    assert rounded(static) == set(PRODUCTS)  # the model that was given is as it was
    sizes = [backend.write(model, tmp_path / str(i)) for i, model in enumerate((static, part))]
    assert sizes[1] - sizes[0] > 3 * (384 * 1152 + 384 * 384 + 384 * 1536)
    expected = outputs(backend.base, feeds, tmp_path / "base")
    few, all_ = (parity(expected, outputs(tmp_path / name, feeds, tmp_path)).cosine_mean for name in "10")
    assert 1 > few > all_


def test_fp16_is_half_the_size_and_as_good(
    backend: OpenVinoBackend, fp32_ir: Path, feeds: list[Feed], tmp_path: Path
) -> None:
    [(label, make)] = backend.variants("fp16")
    assert label == "fp16"
    size = backend.write(make(), tmp_path)
    assert size < 0.51 * (fp32_ir / "model.bin").stat().st_size
    found = outputs(tmp_path, feeds, tmp_path, precision="fp16")
    assert parity(outputs(fp32_ir, feeds, tmp_path), found).cosine_min > 0.9995


@pytest.mark.slow
def test_weights_alone_or_with_inputs_rounded_at_run_time(
    backend: OpenVinoBackend, fp32_ir: Path, feeds: list[Feed], tmp_path: Path
) -> None:
    expected = outputs(fp32_ir, feeds, tmp_path)
    near = {}
    for name in ("weight-only", "dynamic"):
        [(label, make)] = backend.variants(name)
        model = make()
        assert label == name
        assert not any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
        assert backend.write(model, tmp_path / name) < 0.27 * (fp32_ir / "model.bin").stat().st_size
        near[name] = parity(expected, outputs(tmp_path / name, feeds, tmp_path)).cosine_mean
    assert near["weight-only"] > 0.999
    # both hold the same weights: where they answer alike, OpenVINO has no INT8 kernel that ranges at run time here
    assert 0.995 < near["dynamic"] <= near["weight-only"]
    assert b'DYNAMIC_QUANTIZATION_GROUP_SIZE value="0"' in (tmp_path / "weight-only" / "model.xml").read_bytes()


def test_a_trained_models_ranges_give_what_they_give_in_onnx(
    backend: OpenVinoBackend, fp32_folder: Path, feeds: list[Feed], tmp_path: Path
) -> None:
    source_ = Source(backend.source.fp32, tmp_path, feeds, embeddings_int8=False, seed=0, trained=RANGES)
    [(label, make)] = OpenVinoBackend(source_).variants(qat.NAME)
    model = make()
    assert label == "qat"
    assert rounded(model) == set(PRODUCTS)
    theirs = onnx_outputs(qat.qdq(onnx.load(str(fp32_folder / "model.onnx")), RANGES), feeds)
    ours = outputs(model, feeds, tmp_path)
    assert parity(theirs, ours).cosine_min > 0.999
    assert parity(outputs(backend.base, feeds, tmp_path / "base"), ours).cosine_mean < 0.9999
    with pytest.raises(ModelError, match=r"ranges\.json; found nothing on layers\.1\.down"):
        with_ranges(backend.base, {name: RANGES[name] for name in PRODUCTS[:-1]})


def test_the_variants_and_their_order(fp32_ir: Path, feeds: list[Feed], monkeypatch: pytest.MonkeyPatch) -> None:
    def labels(**more: Any) -> list[str]:
        return [label for label, _ in backend_of(fp32_ir, feeds, **more).variants("nncf")]

    plain = ["nncf", "nncf-smooth-0.75", "nncf-smooth-0.5", "nncf-accuracy-control"]
    reduced = [f"{label}-reduce-range" for label in plain]
    assert labels(reduce_range=False) == plain
    assert labels(reduce_range=True) == reduced
    monkeypatch.setattr("edgekit.quantize.openvino.saturates", lambda: True)
    assert labels() == [*reduced, *plain]
    monkeypatch.setattr("edgekit.quantize.openvino.saturates", lambda: False)
    assert labels() == plain


@pytest.mark.slow
def test_reduced_weights_have_seven_bits(backend: OpenVinoBackend, feeds: list[Feed]) -> None:
    made = openvino_nncf.static(backend.base, feeds, seed=0, reduced=True)
    assert max(int(np.abs(weight_of(node).data.astype(int)).max()) for node in products(made).values()) <= 64


@pytest.mark.slow
def test_accuracy_control_comes_at_least_as_near(
    backend: OpenVinoBackend, static: Model, feeds: list[Feed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_nncf, "CONTROL_DROP", 0.0003)
    made = openvino_nncf.accuracy_controlled(backend.base, feeds, seed=0)
    assert 0 < len(rounded(made)) < len(PRODUCTS)
    expected = outputs(backend.base, feeds, tmp_path / "base")
    controlled, whole = (
        parity(expected, outputs(model, feeds, tmp_path / str(i))).cosine_mean for i, model in enumerate((made, static))
    )
    assert controlled > whole
    assert controlled >= 1 - 2 * 0.0003


@pytest.mark.slow
def test_minilm_keeps_its_rank_correlation_and_gets_faster(to_rank: MiniLm, shared_data: Path, tmp_path: Path) -> None:
    """STS-B dev: Spearman within 0.4 points of fp32."""
    fp32 = tmp_path / "fp32"
    export_openvino(to_rank.torch, to_rank.onnx, fp32, ExportConfig(), CALIBRATION)
    config = QuantizeConfig(openvino_candidates=["nncf"], gate={"max_drop": 0.004})
    calibration = [row[0] for row in pairs(shared_data, "train")[::19]][:300]
    report = quantize(fp32, to_rank.torch, tmp_path / "int8", config, calibration, to_rank.judge)
    chosen = next(c for c in report.candidates if c["chosen"])
    assert chosen["drop"] <= 0.004
    assert chosen["p50_ratio_to_fp32"] < 1
    assert chosen["size_bytes"] < 0.27 * sum((fp32 / name).stat().st_size for name in ("model.xml", "model.bin"))
    assert len(report.sensitivity) == 24


def test_the_package_stays_silent(backend: OpenVinoBackend, capfd: pytest.CaptureFixture[str]) -> None:
    assert import_openvino() is not None
    [(_, make)] = backend.variants("weight-only")
    make()
    assert capfd.readouterr() == ("", "")
