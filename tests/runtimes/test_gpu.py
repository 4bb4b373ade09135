"""device="gpu" up to the line where hardware begins: what falls back is seen, and no CPU passes for a GPU."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnxruntime
import pytest

import edgekit
from edgekit.bundle import Manifest, open_bundle, write
from edgekit.errors import EdgekitWarning, EngineError, FallbackWarning, InputError
from edgekit.runtimes.device import built_providers, choice_for_gpu, place_of
from edgekit.runtimes.engines.onnxruntime import OnnxRuntimeEngine
from edgekit.runtimes.engines.providers import CPU, CUDA, TENSORRT, Lengths, Place
from tests.runtimes import tiny
from tests.runtimes.stand_in import StandIn, install

TEXT = "a charming film"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32, onnxruntime and OpenVINO, some kilobytes. Shared: do not write to it."""
    return tiny.bundle(tmp_path_factory.mktemp("gpu") / "tiny.edge", openvino=True)


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """A root whose device tree is an Orin Nano's."""
    tree = tmp_path / "root/proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0")
    return tmp_path / "root"


def test_a_wheel_without_gpu_falls_back_aloud(bundle: Path) -> None:
    with pytest.warns(FallbackWarning, match=r"asked for device gpu.*Tensorrt.*pip install onnxruntime-gpu"):
        model = edgekit.load(bundle, device="gpu", threads=1)
    placement = model.placements[""]
    assert (model.engine, placement.asked[0], placement.registered) == ("onnxruntime", TENSORRT, (CPU,))
    assert placement.gpu_share == 0
    assert sum(placement.nodes.values()) > 0
    expected = edgekit.load(bundle, engine="onnxruntime", threads=1)
    assert (model.logits([TEXT]) == expected.logits([TEXT])).all()


def test_the_cpu_is_quiet_and_says_so(bundle: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", EdgekitWarning)
        model = edgekit.load(bundle, engine="onnxruntime", device="cpu", threads=1)
    assert str(model.placements[""]) == CPU
    assert edgekit.load(bundle, engine="openvino", threads=1).placements == {}


def test_older_versions_are_watched_instead_of_asked(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the record of assignments: the profiler's word on one inference, and no file stays behind."""

    class Older(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> object:
            if name == "get_provider_graph_assignment_info":
                raise AttributeError(name)
            return super().__getattribute__(name)

    class Without(StandIn):
        def __init__(self) -> None:
            super().__init__(built=[CPU])
            self.InferenceSession = lambda *given, **named: Older(*given, **named)  # type: ignore[assignment, misc]

    install(monkeypatch, Without())
    with pytest.warns(FallbackWarning):
        found = OnnxRuntimeEngine(bundle / tiny.ONNX, 1, place=Place("gpu")).placement
    assert found.basis == "ran"
    assert set(found.nodes) == {CPU}
    assert 5 <= found.nodes[CPU] <= 9


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"device": "tpu"}, r"device; found 'tpu'; expected auto, cpu, cuda, gpu"),
        ({"device": "gpu", "engine": "openvino"}, r"device gpu; found engine openvino; expected engine onnxruntime"),
    ],
)
def test_what_cannot_be_asked(bundle: Path, given: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        edgekit.load(bundle, threads=1, **given)  # type: ignore[arg-type]


def test_auto_is_the_gpu_on_a_jetson_that_can_and_nowhere_else(
    bundle: Path, jetson: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_bundle(bundle)
    assert place_of(opened, root=jetson).device == "cpu"  # this onnxruntime has no GPU
    install(monkeypatch, StandIn())
    assert built_providers() == [TENSORRT, CUDA]
    assert place_of(opened, root=jetson) == Place("gpu", Lengths(1, 32, 32))
    assert place_of(opened, engine="openvino", root=jetson).device == "cpu"
    assert place_of(opened, file=tiny.XML, root=jetson).device == "cpu"
    assert place_of(opened, root=jetson.parent).device == "cpu"
    assert place_of(opened, device="cpu", root=jetson).device == "cpu"


def test_a_gpu_takes_the_file_in_floating_point(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    value = opened.manifest.to_dict()
    (first,) = [one for one in value["models"] if one["engine"] == "onnxruntime"]
    files = {one.path: bundle / one.path for one in opened.manifest.files}
    for precision in ("w8a8", "fp16"):
        path = f"models/{precision}.onnx"
        value["models"].insert(0, {**first, "path": path, "precision": precision})
        files[path] = bundle / first["path"]
    write(tmp_path / "x.edge", Manifest.from_dict(value), files)
    assert choice_for_gpu(open_bundle(tmp_path / "x.edge")).file == "models/fp16.onnx"
    assert choice_for_gpu(open_bundle(tmp_path / "x.edge"), "models/w8a8.onnx").file == "models/w8a8.onnx"


def test_what_tensorrt_is_asked_for(bundle: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = install(monkeypatch, StandIn())
    with pytest.warns(EdgekitWarning, match=r"TensorRT builds its engine of fp32\.onnx now.*edgekit prepare"):
        model = edgekit.load(bundle, device="gpu", threads=1)
    (session,) = stand_in.sessions
    options = session.given[TENSORRT]
    assert options["trt_profile_max_shapes"] == "input_ids:1x32,attention_mask:1x32"
    folder = Path(options["trt_engine_cache_path"])
    assert folder.parent == cache / "tensorrt" and not folder.stat().st_mode & 0o077
    assert session.given[CUDA]["use_tf32"] == "0"
    assert list(session.given) == [TENSORRT, CUDA, CPU]
    assert not session.fallback and not model.pipeline.batching  # type: ignore[union-attr]
    assert 0.5 < (model.placements[""].gpu_share or 0) < 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", EdgekitWarning)
        edgekit.load(bundle, device="gpu", threads=1)  # the engine is there


def test_libraries_that_do_not_start_are_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, StandIn(starting=[CUDA, CPU]))
    with pytest.warns(FallbackWarning, match=r"TensorrtExecutionProvider did not start.*other versions"):
        model = edgekit.load(bundle, device="gpu", threads=1)
    assert model.placements[""].registered == (CUDA, CPU)


def test_verify_fails_where_the_cpu_ran(bundle: Path) -> None:
    report = edgekit.verify(bundle, threads=1, device="gpu")
    bad = [one for one in report.checks if not one.ok]
    assert [one.name for one in bad] == ["device gpu"]
    assert "CPUExecutionProvider" in bad[0].detail and "pip install onnxruntime-gpu" in bad[0].detail
    assert not any("on gpu" in one.name for one in report.checks)
    assert edgekit.verify(bundle, threads=1).ok


def test_verify_tells_which_nodes_a_gpu_has(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, StandIn())
    report = edgekit.verify(bundle, threads=1, device="gpu")
    assert report.ok
    found = {one.name: one.detail for one in report.checks}
    assert "TensorrtExecutionProvider" in found["device gpu"] and "nodes (assigned)" in found["device gpu"]
    assert "tolerance stated" in found[f"outputs {tiny.ONNX} on gpu"]


def test_a_gpu_that_fails_leaves_the_cpu_to_auto_and_an_error_to_gpu(
    bundle: Path, jetson: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, StandIn())
    monkeypatch.setattr("edgekit.runtimes.engines.gpu.is_jetson", lambda *_: True)
    cache.mkdir()
    (cache / "tensorrt").write_text("no folder")
    with pytest.raises(InputError, match="EDGEKIT_CACHE"):
        edgekit.load(bundle, device="gpu", threads=1)
    with pytest.warns(FallbackWarning, match="the CPU serves, as the GPU does not"):
        model = edgekit.load(bundle, threads=1)
    assert all(one.registered == (CPU,) for one in model.placements.values())


def test_only_onnxruntime_knows_devices(bundle: Path) -> None:
    from edgekit.runtimes.engines import create

    with pytest.raises(EngineError, match="engine openvino on device gpu; found openvino; expected onnxruntime"):
        create("openvino", bundle / tiny.XML, 1, ("input_ids", "attention_mask"), "", place=Place("gpu"))
