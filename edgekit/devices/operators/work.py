"""What a fresh process does that tells the time of each operator."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit.bundle import open_bundle
from edgekit.devices.operators import table
from edgekit.devices.runner import runner
from edgekit.runtimes.engines import Engine
from edgekit.runtimes.load import load_file

ADAPTERS = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "litert",
}  # engine -> module here with its Profiled
NONE = "the Python package of {} has no profiler of operators"


def operators(job: dict[str, Any]) -> dict[str, Any]:
    """``ops``: how many inferences are timed, after ``warmup``; see :func:`edgekit.devices.worker.serve` for the rest.

    ``rows`` and ``providers`` as :func:`edgekit.devices.operators.table` gives them. Raises InputError, EngineError.
    """
    adapter = import_module(f"edgekit.devices.operators.{ADAPTERS[job['engine']]}").Profiled
    made: list[Any] = []

    def create(engine: str, path: Path, threads: int, inputs: tuple[str, ...], output: str, precision: str) -> Engine:
        made.append(adapter(path, threads, inputs, output, precision))
        return made[-1]  # type: ignore[no-any-return]

    bundle = open_bundle(job["bundle"], check_hashes=False)
    chosen = next(model for model in bundle.manifest.models if model.path == job["file"])
    model = load_file(bundle, chosen, job["threads"], job["engine"], create)
    _, run, _ = runner(model, job)
    for number in range(1 + job["warmup"]):
        run(number)
    for one in made:
        one.reset()
    for number in range(job["ops"]):
        run(number)
    return table([timed for one in made for timed in one.timed(job["ops"])])
