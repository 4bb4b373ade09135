"""The pieces of quantization: tables, the engine's form, sensitivity, choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekit.evaluate import parity
from edgekit.export.graph import Graph, weight_matmuls
from edgekit.quantize.backend import Feed, Source
from edgekit.quantize.candidates import dynamic, nncf, static
from edgekit.quantize.choose import choose
from edgekit.quantize.embeddings import int8_embeddings, quantize_rows
from edgekit.quantize.lower import lower
from edgekit.quantize.onnxruntime import OnnxBackend
from edgekit.quantize.report import Candidate
from edgekit.quantize.restore import restore
from edgekit.quantize.sensitivity import Sensitivity, rank
from tests.conftest import WORDS

from .conftest import outputs

Floats = st.floats(-1e3, 1e3, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=Floats))
@settings(deadline=None)
def test_rows_are_off_by_at_most_half_their_scale(table: np.ndarray) -> None:
    codes, scales = quantize_rows(table)
    assert codes.dtype == np.int8
    assert scales.shape == (len(table), 1)
    error = np.abs(codes.astype(np.float64) * scales - table)
    assert (error <= scales * (0.5 + 1e-4)).all()


def test_int8_tables_are_small_and_close(fp32: onnx.ModelProto, feeds: list[Feed]) -> None:
    model = onnx.ModelProto.FromString(fp32.SerializeToString())
    assert int8_embeddings(model) == ["position.weight", "word.weight"]
    saved = fp32.ByteSize() - model.ByteSize()
    assert saved > 0.74 * WORDS * 384 * 4
    near = parity(outputs(fp32, feeds), outputs(model, feeds))
    assert near.cosine_min > 0.9995
    assert all(
        t.data_type != onnx.TensorProto.FLOAT or t.dims[:1] != [WORDS] or t.dims[1] == 1
        for t in model.graph.initializer
    )


def test_every_linear_is_quantized_and_nothing_else(small: onnx.ModelProto, feeds: list[Feed]) -> None:
    linears = len(weight_matmuls(Graph(small)))
    moving = dynamic(small, feeds, 0)
    assert sum(n.op_type == "MatMulInteger" for n in moving.graph.node) == linears == 8
    assert not weight_matmuls(Graph(moving))
    still = lower(static(small, feeds, 0))
    kinds = [n.op_type for n in still.graph.node]
    assert kinds.count("MatMulIntegerToFloat") + kinds.count("QAttention") == linears
    assert kinds.count("QuantizeLinear") == linears
    assert "DequantizeLinear" not in kinds


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", [dynamic, static, nncf])
def test_the_engines_form_gives_the_same_numbers(quantizer: object, small: onnx.ModelProto, feeds: list[Feed]) -> None:
    plain = quantizer(small, feeds, 0)  # type: ignore[operator]
    before = outputs(plain, feeds)
    after = outputs(lower(plain), feeds)
    assert parity(before, after).cosine_min > 0.9999


def test_signed_activations_become_unsigned_with_the_same_result(small: onnx.ModelProto, feeds: list[Feed]) -> None:
    from onnx import numpy_helper

    model = static(small, feeds, 0)
    before = outputs(model, feeds)
    graph = Graph(model)
    for node in graph.proto.node:  # the codes 128 lower, as a quantizer that prefers INT8 would have written them
        if node.op_type == "QuantizeLinear":
            zero = numpy_helper.to_array(graph.tensors[node.input[2]])
            graph.add_constant(node.input[2], np.array(int(zero) - 128, np.int8))
    lowered = lower(model)
    zeros = [Graph(lowered).constant(n.input[2]) for n in lowered.graph.node if n.op_type == "QuantizeLinear"]
    assert {z.dtype for z in zeros if z is not None} == {np.dtype(np.uint8)}
    assert parity(before, outputs(lowered, feeds)).cosine_min > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("quantizer", [dynamic, static, nncf])
def test_restoring_everything_gives_float_back(quantizer: object, small: onnx.ModelProto, feeds: list[Feed]) -> None:
    whole = quantizer(small, feeds, 0)  # type: ignore[operator]
    back = restore(whole, small, set(weight_matmuls(Graph(small))))
    np.testing.assert_allclose(outputs(back, feeds), outputs(small, feeds), atol=1e-6)


@pytest.mark.slow
def test_a_planted_outlier_is_found(fp32_folder: Path, small: onnx.ModelProto, feeds: list[Feed]) -> None:
    def ranking(base: onnx.ModelProto) -> list[Sensitivity]:
        backend = OnnxBackend(Source(fp32_folder, fp32_folder, feeds, embeddings_int8=True, seed=0))
        backend.base = base
        return rank(backend, dynamic(base, feeds, 0), outputs(base, feeds), lambda model: outputs(model, feeds))

    before = {s.matrix: s.error for s in ranking(small)}
    model = onnx.ModelProto.FromString(small.SerializeToString())
    graph = Graph(model)
    names = [f"layers.1.attention.{part}" for part in ("qkv.weight", "qkv.bias", "out.weight")]
    qkv, bias, out = (np.array(graph.constant(name)) for name in names)
    # one value channel smaller and its row of the next matrix larger: the same function with an outlier row
    qkv[:, 768 + 7] /= 500
    bias[768 + 7] /= 500
    out[7] *= 500
    for name, value in zip(names, (qkv, bias, out), strict=True):
        graph.add_constant(name, value)
    np.testing.assert_allclose(outputs(model, feeds), outputs(small, feeds), atol=1e-5)
    ranked = ranking(model)
    assert next(iter(before)) != "layers.1.attention.out"
    assert ranked[0].matrix == "layers.1.attention.out"
    assert ranked[0].error > 5 * before["layers.1.attention.out"]
    assert len(ranked) == 8
    assert ranked[0].parameters == 384 * 384


def _candidate(name: str, drop: float, ratio: float, cosine: float = 0.99) -> Candidate:
    return Candidate(name, drop=drop, p50_ratio_to_fp32=ratio, p50_ms=ratio, cosine_mean=cosine)


def test_the_fastest_within_the_bound_wins() -> None:
    winner = choose([_candidate("a", 0.02, 0.1), _candidate("b", 0.004, 0.3), _candidate("c", 0.0, 0.5)], 0.01)
    assert winner is not None
    assert winner.name == "b"
    assert winner.chosen


def test_near_ties_go_to_the_more_accurate_then_to_the_first() -> None:
    winner = choose([_candidate("a", 0.005, 0.300), _candidate("b", 0.001, 0.312)], 0.01)
    assert winner is not None
    assert winner.name == "b"
    winner = choose([_candidate("a", 0.001, 0.300, 0.98), _candidate("b", 0.001, 0.299, 0.99)], 0.01)
    assert winner is not None
    assert winner.name == "b"
    winner = choose([_candidate("a", 0.001, 0.312), _candidate("b", 0.001, 0.300)], 0.01)
    assert winner is not None
    assert winner.name == "a"


def test_drops_that_cannot_be_told_apart_leave_it_to_the_outputs() -> None:
    near, far, worse = (
        _candidate("near", 0.004, 0.3, 0.999),
        _candidate("far", 0.001, 0.3, 0.99),
        _candidate("worse", 0.009, 0.3, 1),
    )
    far.details = {"drop_low": -0.003, "drop_high": 0.005}
    winner = choose([near, far, worse], 0.01)
    assert winner is near
    assert "nearest to fp32's outputs of 2" in winner.reason
    far.details = {"drop_low": 0.0, "drop_high": 0.002}
    assert choose([near, far, worse], 0.01) is far


def test_nothing_within_the_bound_is_no_winner() -> None:
    assert choose([_candidate("a", 0.02, 0.1)], 0.01) is None


@given(
    st.lists(st.tuples(st.floats(0, 0.02), st.floats(0.05, 20)), max_size=6),
    st.one_of(st.just(0.0), st.floats(0.05, 20)),
)
def test_no_candidate_below_the_asked_speed_wins(found: list[tuple[float, float]], min_speed: float) -> None:
    candidates = [_candidate(str(place), *one) for place, one in enumerate(found)]
    winner = choose(candidates, 0.01, min_speed)
    fit = [drop <= 0.01 and ratio * min_speed <= 1 for drop, ratio in found]
    assert (winner is not None) == any(fit)
    assert winner is None or fit[int(winner.name)]
    slow = [one for one, (drop, ratio) in zip(candidates, found, strict=True) if drop <= 0.01 and ratio * min_speed > 1]
    assert all("of fp32's speed, asked for" in one.reason for one in slow)
