"""onnxruntime's providers as pure functions: options, the cache's name, what fell back, and the GPU's own facts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import InputError
from edgekit.runtimes.engines import gpu
from edgekit.runtimes.engines.placement import ASSIGNED, Placement, of_profile
from edgekit.runtimes.engines.providers import (
    CPU,
    CUDA,
    DEVICES,
    TENSORRT,
    Lengths,
    Place,
    cache_name,
    cuda_options,
    fell_back,
    tensorrt_options,
)

SIDE = st.one_of(st.integers(1, 4096), st.none(), st.text("abc", min_size=1))
INPUTS = st.dictionaries(st.text("abcdefgh_", min_size=1), st.lists(SIDE, min_size=1, max_size=4), min_size=1)
LENGTHS = st.lists(st.integers(1, 8192), min_size=3, max_size=3).map(lambda three: Lengths(*sorted(three)))
PRECISION = st.sampled_from(["fp32", "fp16", "w8a8", "w8a16"])


@given(INPUTS, LENGTHS, PRECISION)
def test_shapes_lie_within_each_other_and_cover_every_free_input(
    inputs: dict[str, list[Any]], lengths: Lengths, precision: str
) -> None:
    options = tensorrt_options("/cache", precision, inputs, lengths)
    free = {name for name, shape in inputs.items() if not all(isinstance(side, int) for side in shape)}
    read = {}
    for part in ("min", "opt", "max"):
        listed = [one.split(":") for one in options.get(f"trt_profile_{part}_shapes", "").split(",") if one]
        read[part] = {name: [int(side) for side in sides.split("x")] for name, sides in listed}
        assert set(read[part]) == free
    for name in free:
        three = (read[part][name] for part in ("min", "opt", "max"))
        for small, good, large, stated in zip(*three, inputs[name], strict=True):
            assert small <= good <= large
            assert not isinstance(stated, int) or small == large == stated
    assert all(isinstance(value, str) for value in options.values())
    assert (options["trt_fp16_enable"] == "1") == (precision in ("fp16", "w8a16"))
    assert (options["trt_int8_enable"] == "1") == (precision == "w8a8")


@given(st.tuples(*[st.text(max_size=12)] * 4), st.tuples(*[st.text(max_size=12)] * 4))
def test_another_gpu_version_or_model_is_another_folder(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    names = [cache_name(*facts, {"a": "1", "trt_engine_cache_path": facts[0]}) for facts in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]+", name) and len(name) < 255 for name in names)


def test_the_folders_own_place_does_not_count_but_every_other_option_does() -> None:
    inputs = {"input_ids": ["b", "t"]}
    here, there = (tensorrt_options(folder, "fp16", inputs, Lengths()) for folder in ("/a", "/b"))
    facts = ("sm_87", "10.3.0", "1.23.0", "ab" * 32)
    assert cache_name(*facts, here) == cache_name(*facts, there)
    assert cache_name(*facts, here).startswith("sm_87-trt10.3.0-ort1.23.0-")
    for other in (
        tensorrt_options("/a", "fp32", inputs, Lengths()),
        tensorrt_options("/a", "fp16", inputs, Lengths(1, 32, 64)),
    ):
        assert cache_name(*facts, other) != cache_name(*facts, here)


def test_cuda_keeps_fp32_exact() -> None:
    assert cuda_options("fp32")["use_tf32"] == "0"
    assert cuda_options("fp16")["use_tf32"] == "1"


NAMES = st.lists(st.sampled_from([TENSORRT, CUDA, CPU]), unique=True)


@given(NAMES, NAMES, NAMES)
def test_whatever_is_missing_is_named_with_its_reason(asked: list[str], built: list[str], got: list[str]) -> None:
    told = fell_back(asked, built, got, "1.31.1")
    missing = [one for one in asked if one not in got]
    assert bool(told) == bool(missing)
    assert all(one in told for one in missing)
    assert ("pip install onnxruntime-gpu" in told) == any(one not in built for one in missing)
    assert ("did not start" in told) == any(one in built for one in missing)


def test_devices() -> None:
    assert DEVICES["gpu"] == (TENSORRT, CUDA, CPU)
    with pytest.raises(InputError, match=r"device; found 'tpu'; expected cpu, cuda, gpu"):
        Place("tpu")


def test_a_placement_never_calls_the_cpu_a_gpu() -> None:
    asked = DEVICES["gpu"]
    assert Placement(asked, (CPU,), {CPU: 9}, ASSIGNED).gpu_share == 0
    assert Placement(asked, (TENSORRT, CPU), {CPU: 9}, ASSIGNED).gpu_share == 0
    assert Placement(asked, (TENSORRT, CPU)).gpu_share is None
    mixed = Placement(asked, asked, {TENSORRT: 6, CUDA: 3, CPU: 1}, ASSIGNED)
    assert mixed.gpu_share == 0.9
    assert str(mixed) == f"{TENSORRT} 6, {CUDA} 3, {CPU} 1 of 10 nodes (assigned)"
    assert "not told" in str(Placement(asked, (TENSORRT, CPU)))


@given(st.binary(max_size=200))
def test_what_is_no_profile_tells_nothing(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("profile") / "p.json"
    path.write_bytes(data)
    assert of_profile(path) == {}


def test_a_profile_counts_each_node_once(tmp_path: Path) -> None:
    def event(name: str, number: int, provider: str) -> dict[str, Any]:
        return {"cat": "Node", "name": name, "args": {"provider": provider, "node_index": str(number)}}

    events = [
        event("a_kernel_time", 0, TENSORRT),
        event("a_kernel_time", 0, TENSORRT),
        event("_kernel_time", 1, CPU),
        event("_kernel_time", 2, CPU),
        event("a_fence_before", 0, CPU),
        {"cat": "Session", "name": "session_initialization", "args": {}},
    ]
    (tmp_path / "p.json").write_text(json.dumps(events))
    assert of_profile(tmp_path / "p.json") == {TENSORRT: 1, CPU: 2}


def test_the_names_are_onnxruntimes_own() -> None:
    assert {TENSORRT, CUDA, CPU} <= set(onnxruntime.get_all_providers())


@pytest.mark.parametrize(
    ("number", "text"), [(8502, "8.5.2"), (8601, "8.6.1"), (100300, "10.3.0"), (101602, "10.16.2"), (110000, "11.0.0")]
)
def test_versions_of_tensorrt(number: int, text: str) -> None:
    assert gpu.version_of(number) == text


def libraries(major: int, minor: int, error: int = 0) -> Any:
    """What opens a libcuda that answers so, and TensorRT 10.3 as libnvinfer.so.10 alone."""

    def put(place: Any, key: int, _: Any) -> int:
        place._obj.value = {75: major, 76: minor}[key]
        return error

    cuda = SimpleNamespace(cuInit=lambda _: error, cuDeviceGet=lambda *_: error, cuDeviceGetAttribute=put)
    known = {gpu.LIBCUDA: cuda, "libnvinfer.so.10": SimpleNamespace(getInferLibVersion=lambda: 100300)}

    def opened(name: str) -> Any:
        if name not in known:
            raise OSError(f"{name}: cannot open shared object file")
        return known[name]

    return opened


def test_the_gpu_is_asked_through_its_own_libraries() -> None:
    assert gpu.architecture(libraries(8, 7)) == "sm_87"
    assert gpu.tensorrt_version(libraries(8, 7)) == "10.3.0"
    assert gpu.architecture(libraries(8, 7, error=100)) == gpu.UNKNOWN  # CUDA_ERROR_NO_DEVICE


def test_without_the_libraries_nothing_is_claimed() -> None:
    def absent(name: str) -> Any:
        raise OSError(name)

    assert (gpu.architecture(absent), gpu.tensorrt_version(absent)) == (gpu.UNKNOWN, gpu.UNKNOWN)
    assert gpu.architecture(lambda _: SimpleNamespace()) == gpu.UNKNOWN
