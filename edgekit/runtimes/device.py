"""Which device serves: the CPU, or an NVIDIA GPU through onnxruntime. GPUs were not run here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgekit.bundle import Bundle, ModelFile
from edgekit.bundle.records import TaskSpec
from edgekit.errors import InputError
from edgekit.runtimes import engines
from edgekit.runtimes.choose import Choice, offer
from edgekit.runtimes.engines import gpu
from edgekit.runtimes.engines.providers import DEVICES, GPU_PRECISIONS, GPU_PROVIDERS, Lengths, Place

AUTO = "auto"
BEST_LENGTH = 32  # tokens that a GPU's engine is built to be fastest at


def place_of(
    bundle: Bundle, device: str = AUTO, engine: str = AUTO, file: str | None = None, root: Path = Path("/")
) -> Place:
    """Where :func:`edgekit.load` with these arguments serves.

    "gpu": TensorRT, then CUDA, then the CPU; "cuda" leaves TensorRT out; "auto" is "gpu" on a Jetson whose onnxruntime
    has a GPU's providers, for a bundle with an ONNX file in fp16 or fp32, else "cpu". ``root``: where the machine's
    files are. Raises ``InputError`` for another device, and for a GPU and an engine that does not know it.
    """
    if device not in (AUTO, *DEVICES):
        raise InputError("device", found=repr(device), expected=", ".join((AUTO, *DEVICES)))
    if device not in (AUTO, "cpu") and engine not in (AUTO, engines.ON_GPU):
        raise InputError(f"device {device}", found=f"engine {engine}", expected=f"engine {engines.ON_GPU}")
    if device == AUTO:
        wanted = engine in (AUTO, engines.ON_GPU) and any(fits(model) for model in models(bundle, file))
        device = "gpu" if wanted and gpu.is_jetson(root) and built_providers() else "cpu"
    return Place(device, lengths_of(bundle.manifest.task))


def models(bundle: Bundle, file: str | None = None) -> list[ModelFile]:
    """The bundle's model files, or the one that is named."""
    return [model for model in bundle.manifest.models if file in (None, model.path)]


def fits(model: ModelFile) -> bool:
    """Whether a GPU runs ``model`` whole, as far as its engine and precision tell."""
    return model.engine == engines.ON_GPU and model.precision in GPU_PRECISIONS


def choice_for_gpu(bundle: Bundle, file: str | None = None) -> Choice:
    """The ONNX file that a GPU runs best: fp16, else fp32, else the manifest's first. Errors of ``offer``."""
    found = offer(bundle, engines.ON_GPU, file)
    order = {precision: place for place, precision in enumerate(GPU_PRECISIONS)}
    return min(found.ready, key=lambda one: order.get(found.models[one.file].precision, len(order)))


def built_providers() -> list[str]:
    """The GPU providers that the installed onnxruntime was built with; none where it is not installed."""
    if find_spec("onnxruntime") is None:
        return []
    from edgekit.runtimes.engines.onnxruntime import import_onnxruntime

    return [one for one in import_onnxruntime().get_available_providers() if one in GPU_PROVIDERS]


def lengths_of(spec: TaskSpec) -> Lengths:
    """The lengths that texts of ``spec`` can have."""
    if spec.fixed_length:
        return Lengths(spec.max_length, spec.max_length, spec.max_length)
    return Lengths(1, min(BEST_LENGTH, spec.max_length), spec.max_length)
