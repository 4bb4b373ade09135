"""onnxruntime sessions on a GPU: the engine cache, and what really runs where. Not run here on a GPU."""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.cache import cache_dir, private
from edgekit.errors import EdgekitWarning, FallbackWarning
from edgekit.runtimes.engines import gpu
from edgekit.runtimes.engines.placement import ASSIGNED, RAN, Placement, of_assignment, of_profile
from edgekit.runtimes.engines.providers import (
    CUDA,
    DEVICES,
    TENSORRT,
    Dimension,
    Place,
    cache_name,
    cuda_options,
    fell_back,
    profile_shape,
    tensorrt_options,
)

RECORD = "session.record_ep_graph_assignment_info"
TYPES: Mapping[str, Any] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}


def open_on(ort: Any, path: Path, options: Any, place: Place, precision: str) -> tuple[Any, Placement]:
    """A session of ``path`` with the providers of ``place``, and where its nodes are. ``ort``: the onnxruntime package.

    Warns with ``FallbackWarning`` where a provider is missing, or where the GPU has less than half of the nodes, and
    with ``EdgekitWarning`` before TensorRT builds an engine, which takes minutes.
    """
    asked, built = DEVICES[place.device], ort.get_available_providers()
    providers = [(name, _options(name, ort, path, place, precision)) for name in asked if name in built]
    told = hasattr(ort.InferenceSession, "get_provider_graph_assignment_info")
    if told:
        options.add_session_config_entry(RECORD, "1")
    with tempfile.TemporaryDirectory() as scratch:
        if not told:
            options.enable_profiling, options.profile_file_prefix = True, str(Path(scratch) / "ran")
        session = ort.InferenceSession(str(path), options, providers=providers)
        session.disable_fallback()  # a GPU that fails later is an error, not the CPU in silence
        nodes = _assigned(session) if told else _ran(session, place)
    found = Placement(asked, tuple(session.get_providers()), nodes, (ASSIGNED if told else RAN) if nodes else "")
    _tell(found, built, str(ort.__version__), path.name, place)
    return session, found


def engine_folder(ort: Any, path: Path, place: Place, precision: str) -> Path:
    """Where TensorRT's engine of ``path`` lies, or will."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    options = tensorrt_options("", precision, _inputs(ort, path), place.lengths)
    name = cache_name(gpu.architecture(), gpu.tensorrt_version(), str(ort.__version__), digest, options)
    return cache_dir() / "tensorrt" / name


def is_built(folder: Path) -> bool:
    """Whether an engine lies in ``folder``."""
    return folder.is_dir() and any(folder.glob("*.engine"))


def example(session: Any, length: int) -> dict[str, Any]:
    """One input of ``session`` at ``length`` tokens: ones, which are no padding and a token of every vocabulary."""
    return {
        one.name: np.ones(profile_shape(one.shape, length), TYPES.get(one.type, np.float32))
        for one in session.get_inputs()
    }


def _options(name: str, ort: Any, path: Path, place: Place, precision: str) -> dict[str, str]:
    if name == CUDA:
        return cuda_options(precision)
    if name != TENSORRT:
        return {}
    folder = private(engine_folder(ort, path, place, precision))
    if not is_built(folder):
        warnings.warn(
            f"TensorRT builds its engine of {path.name} now, which can take minutes; `edgekit prepare` does it ahead",
            EdgekitWarning,
            stacklevel=5,
        )
    return tensorrt_options(str(folder), precision, _inputs(ort, path), place.lengths)


def _inputs(ort: Any, path: Path) -> dict[str, list[Dimension]]:
    """Shapes of the file's inputs, as a session that optimises nothing reads them."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return {one.name: list(one.shape) for one in session.get_inputs()}


def _assigned(session: Any) -> dict[str, int]:
    try:
        return of_assignment(session.get_provider_graph_assignment_info())
    except Exception:  # after a fallback inside onnxruntime nothing may be recorded; the model serves all the same
        return {}


def _ran(session: Any, place: Place) -> dict[str, int]:
    """For versions before the record: what the profiler saw in one inference, the only one that it watches."""
    session.run(None, example(session, place.lengths.best))
    return of_profile(Path(session.end_profiling()))


def _tell(found: Placement, built: list[str], version: str, name: str, place: Place) -> None:
    why = fell_back(found.asked, built, found.registered, version)
    share = found.gpu_share
    if not why and share is not None and share < 0.5:
        why = (
            f"The GPU took {share:.0%} of its nodes: it lacks the others, such as INT8 with ranges taken at run time. "
            "A file in fp16 or fp32 runs there (recipe: precision: [fp16, w8a8])"
        )
    if why:
        asked = f"{name}: asked for device {place.device}"
        warnings.warn(f"{asked}; {found} serves. {why}", FallbackWarning, stacklevel=5)
