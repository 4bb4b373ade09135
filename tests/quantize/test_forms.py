"""Forms of the graph: attention in one kernel, rows, halves, smaller weights, seven bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.evaluate import parity
from edgekit.export.graph import Graph, copy, save, weight_matmuls
from edgekit.quantize import candidates
from edgekit.quantize.backend import Feed, Source
from edgekit.quantize.candidates import dynamic, dynamic_rows, nncf, static, static_a16, variants, with_rows
from edgekit.quantize.lower import lower
from edgekit.quantize.onnxruntime import OnnxBackend
from edgekit.quantize.restore import restore
from edgekit.quantize.weights import fp16, int8_weights
from edgekit.runtimes import artifact
from edgekit.runtimes.isa import saturates

from .conftest import outputs

Quantizer = Callable[..., onnx.ModelProto]
SLOW_NNCF = pytest.param(nncf, marks=pytest.mark.slow, id="nncf")


def _kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def _padded(feeds: list[Feed]) -> list[Feed]:
    """Each feed as two rows, the second cut to half its length by the mask."""
    found = []
    for feed in feeds:
        mask = np.concatenate([feed["attention_mask"]] * 2)
        mask[1, max(1, mask.shape[1] // 2) :] = 0
        found.append({"input_ids": np.concatenate([feed["input_ids"]] * 2), "attention_mask": mask})
    return found


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", [dynamic, static, nncf])
def test_attention_becomes_one_kernel_with_the_same_numbers(
    quantizer: Quantizer, small: onnx.ModelProto, feeds: list[Feed]
) -> None:
    plain = quantizer(small, feeds, 0)
    fused = lower(copy(plain))
    kinds = _kinds(fused)
    assert kinds["QAttention"] == 2
    assert not {"Softmax", "Split", "Transpose", "FusedMatMul", "MatMulInteger"} & set(kinds)
    near = parity(outputs(plain, _padded(feeds)), outputs(fused, _padded(feeds)))
    assert near.cosine_min > (0.9999 if quantizer is not dynamic else 0.999)  # where a rounding falls, a range moves


def test_attention_keeps_its_parts_where_its_product_is_float_or_the_pattern_is_another(
    small: onnx.ModelProto, feeds: list[Feed]
) -> None:
    quantized = static(small, feeds, 0)
    part = lower(restore(quantized, small, {"layers.0.attention.qkv"}))
    assert (_kinds(part)["QAttention"], _kinds(part)["FusedMatMul"]) == (1, 1)
    assert parity(outputs(quantized, feeds), outputs(part, feeds)).cosine_min > 0.9

    other = copy(quantized)  # scores divided by another number than the square root of a head's width
    graph = Graph(other)
    scale = next(n for n in graph.proto.node if n.op_type == "Mul" and n.name.startswith("/layers.0/attention"))
    graph.add_constant("other", np.array(0.5, np.float32))
    scale.input[1 if scale.input[1] in graph.tensors else 0] = "other"
    lowered = lower(copy(other))
    assert _kinds(lowered)["QAttention"] == 1
    assert parity(outputs(other, feeds), outputs(lowered, feeds)).cosine_min > 0.9999


def test_rows_are_nearer_to_fp32_and_blind_to_their_neighbours(
    small: onnx.ModelProto, feeds: list[Feed], tmp_path: Path
) -> None:
    reference = outputs(small, feeds)
    whole = parity(reference, outputs(lower(static(small, feeds, 0)), feeds)).cosine_mean
    model = lower(with_rows(static)(small, feeds, 0))
    assert _kinds(model)["ReduceMax"] == 2  # the second product of each FFN
    assert parity(reference, outputs(model, feeds)).cosine_mean > whole
    everywhere = lower(dynamic_rows(small, feeds, 0))
    assert _kinds(everywhere)["ReduceMax"] == len(weight_matmuls(Graph(small))) == 8
    alone = outputs(everywhere, feeds[:1])
    pair = {key: np.concatenate([value, value[:, ::-1]]) for key, value in feeds[0].items()}
    np.testing.assert_allclose(outputs(everywhere, [pair])[:1], alone, atol=1e-6)


def test_a_row_of_zeros_stays_zeros(small: onnx.ModelProto, feeds: list[Feed]) -> None:
    model = copy(small)
    graph = Graph(model)
    for name in ("layers.0.up.weight", "layers.0.up.bias"):
        value = graph.constant(name)
        assert value is not None
        graph.add_constant(name, np.zeros_like(value))  # the FFN's inner values are then 0 for every token
    near = parity(outputs(model, feeds), outputs(lower(with_rows(static)(model, feeds, 0)), feeds))
    assert near.cosine_min > 0.98


@pytest.mark.slow
def test_halves_lose_what_the_weights_lose_and_no_more(small: onnx.ModelProto, feeds: list[Feed]) -> None:
    reference = outputs(small, feeds)
    both = lower(static_a16(small, feeds, 0))
    products = _kinds(both)["MatMulIntegerToFloat"]
    assert products == 2 * len(weight_matmuls(Graph(small)))
    assert not _kinds(both)["DequantizeLinear"] - len(weight_matmuls(Graph(small)))  # one a product, for the rest
    of_weights = 1 - parity(reference, outputs(lower(int8_weights(small)), feeds)).cosine_mean
    of_both = 1 - parity(reference, outputs(both, feeds)).cosine_mean
    of_eight_bits = 1 - parity(reference, outputs(lower(static(small, feeds, 0)), feeds)).cosine_mean
    assert of_both < 1.3 * of_weights
    assert of_both < 0.3 * of_eight_bits


def test_fp16_halves_the_file_and_keeps_the_answers(fp32: onnx.ModelProto, feeds: list[Feed], tmp_path: Path) -> None:
    model = lower(fp16(fp32))
    assert save(model, tmp_path / "half.onnx") < 0.51 * save(fp32, tmp_path / "whole.onnx")
    assert parity(outputs(fp32, feeds), outputs(model, feeds)).cosine_min > 0.999999


def test_fp16_leaves_what_it_cannot_hold(fp32: onnx.ModelProto, feeds: list[Feed]) -> None:
    model = copy(fp32)
    graph = Graph(model)
    weight = np.array(graph.constant("layers.0.up.weight"))
    weight[0, 0] = 1e5
    graph.add_constant("layers.0.up.weight", weight)
    found = Graph(fp16(model))
    assert found.tensors["layers.0.up.weight"].data_type == onnx.TensorProto.FLOAT
    assert "layers.1.up.weight.fp16" in found.tensors
    assert np.isfinite(outputs(found.model, feeds)).all()


def test_int8_weights_are_a_quarter_and_nearer_than_int8_activations(
    fp32: onnx.ModelProto, small: onnx.ModelProto, feeds: list[Feed], tmp_path: Path
) -> None:
    model = lower(int8_weights(small))
    assert save(model, tmp_path / "small.onnx") < 0.27 * save(fp32, tmp_path / "whole.onnx")
    near = parity(outputs(small, feeds), outputs(model, feeds)).cosine_mean
    assert near > parity(outputs(small, feeds), outputs(lower(static(small, feeds, 0)), feeds)).cosine_mean
    assert near > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", [dynamic, static, SLOW_NNCF, dynamic_rows, with_rows(static), static_a16])
def test_reduced_weights_have_seven_bits(quantizer: Quantizer, small: onnx.ModelProto, feeds: list[Feed]) -> None:
    """Two products of full codes are 2 * 255 * 127, beyond 16 bits; 2 * 255 * 64 are not."""

    def largest(model: onnx.ModelProto) -> set[int]:
        graph = Graph(model)
        tables = {"word.weight.int8", "position.weight.int8"}
        values = [graph.constant(name) for name in graph.tensors if name not in tables]
        return {int(np.abs(v.astype(int)).max()) for v in values if v is not None and v.dtype == np.int8 and v.ndim > 1}

    assert largest(quantizer(small, feeds, 0)) == {127}
    reduced = quantizer(small, feeds, 0, reduced=True)
    assert largest(reduced) <= {63, 64}
    assert parity(outputs(small, feeds), outputs(lower(reduced), feeds)).cosine_mean > 0.98


def test_seven_bits_are_tried_where_sums_overflow_or_the_recipe_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def labels(reduce_range: bool | str) -> list[str]:
        return [label for label, _ in variants("static", reduce_range)]

    assert saturates("x86_64-avx2")
    assert saturates("x86_64-avx512")
    assert not saturates("x86_64-avx512_vnni")
    assert not saturates("aarch64-neon")
    plain, reduced = ["static", "static-rows"], ["static-reduce-range", "static-rows-reduce-range"]
    assert labels(True) == reduced
    assert labels(False) == plain
    monkeypatch.setattr(candidates, "saturates", lambda: True)
    assert labels("auto") == reduced + plain
    monkeypatch.setattr(candidates, "saturates", lambda: False)
    assert labels("auto") == plain


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fp16", "weight-only", "static-a16", "dynamic", "static"])
def test_every_candidate_can_be_restored_and_is_written_whole(
    name: str, fp32_folder: Path, feeds: list[Feed], tmp_path: Path
) -> None:
    backend = OnnxBackend(Source(fp32_folder, fp32_folder, feeds, embeddings_int8=True, seed=0))
    for label, make in backend.variants(name):
        model = make()
        back = backend.keep_float(model, set(backend.matrices()))
        if name != "fp16":
            np.testing.assert_allclose(outputs(back, feeds), outputs(backend.base, feeds), atol=1e-6)
        folder = tmp_path / label
        folder.mkdir()
        assert backend.write(model, folder) == (folder / "model.onnx").stat().st_size
        (folder / "tokenizer.json").write_bytes((fp32_folder / "tokenizer.json").read_bytes())
        artifact.write(folder, artifact.read_spec(fp32_folder), "onnxruntime", "w8a8")
        answers = artifact.load(folder, threads=1).embed(["a film", "a much longer text about a film"])
        assert np.isfinite(answers).all()
