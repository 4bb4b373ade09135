"""Time of each operator, from the engine's own profiler, as one table for all engines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

# The engines' names of operators, in small letters, by what they do: their beginnings.
_KINDS = {
    "quantize": "quantize dequantize dynamicquantize fakequantize convert(nc,f32,q convert(nc,q",
    "matmul": "matmul gemm fusedmatmul fusedgemm fullyconnected qgemm dynamicquantizematmul einsum "
    "batchmatrixmultiply batchmatmul",
    "convolution": "conv fusedconv groupconvolution convolution nhwcconv depthwise",
    "attention": "attention multiheadattention scaleddotproductattention scaledattn qattention",
    "normalise": "layernorm simplifiedlayernorm skiplayernorm embedlayernorm batchnorm mvn rms lpnorm instancenorm "
    "normalize",
    "softmax": "softmax logsoftmax",
    "activation": "gelu fastgelu biasgelu quickgelu relu tanh sigmoid erf hardswish swish",
    "gather": "gather embedding scatter",
    "reduce": "reduce averagepool maxpool avgpool globalaveragepool pooling argmax topk mean sum",
    "layout": "transpose reshape squeeze unsqueeze split variadicsplit concat slice stridedslice reorder expand tile "
    "broadcast pad shape memcpy identity flatten cast convert shuffle copy evensplit constantpad",
    "elementwise": "add sub mul div pow sqrt clip clamp where select equal not and or less greater min max eltwise "
    "abs exp neg reciprocal rsqrt square",
    "fused": "subgraph snippets fused delegate trt tensorrt",
}


class Timed(NamedTuple):
    """All calls of one operator on one provider in one inference: how many, and ms."""

    op: str
    provider: str
    calls: float
    ms: float


def kind_of(op: str) -> str:
    """What an operator does, in the same word for every engine: the longest beginning that is known decides."""
    name = op.lower().replace("_", "").replace(" ", "").removeprefix("qlinear").removeprefix("static")
    fits = [(len(begin), kind) for kind, begins in _KINDS.items() for begin in begins.split() if name.startswith(begin)]
    return max(fits)[1] if fits else "other"


def table(found: Iterable[Timed]) -> dict[str, Any]:
    """``rows`` and ``providers`` of docs/profile.schema.json, the most time first."""
    timed: dict[tuple[str, str], Timed] = {}
    for one in found:
        old = timed.get((one.op, one.provider), Timed(one.op, one.provider, 0, 0.0))
        timed[one.op, one.provider] = Timed(one.op, one.provider, old.calls + one.calls, old.ms + one.ms)
    ordered = sorted(timed.values(), key=lambda one: (-one.ms, one.op))
    total = sum(one.ms for one in ordered) or 1.0
    shares: dict[str, float] = {}
    for one in ordered:
        shares[one.provider] = shares.get(one.provider, 0.0) + one.ms / total
    rows = [
        {
            "op": one.op,
            "kind": kind_of(one.op),
            "provider": one.provider,
            "calls": round(one.calls),
            "ms": round(one.ms, 6),
            "share": round(one.ms / total, 6),
        }
        for one in ordered
    ]
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    return {"rows": rows, "providers": [{"provider": name, "share": round(share, 6)} for name, share in ranked]}
