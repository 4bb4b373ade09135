"""Ahead of the first load: what an engine builds of a model file on this machine, kept in the cache.

The bundle is signed and stays as it is; the ONNX and IR files in it stay the source of everything that is built.
TensorRT was not run here: what is done for it follows onnxruntime's documentation.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.bundle import Bundle, open_bundle
from edgekit.cache import private
from edgekit.errors import EdgekitError, EdgekitWarning, EngineError, FallbackWarning
from edgekit.progress import Progress, Silent
from edgekit.runtimes import engines
from edgekit.runtimes.choose import pip_line
from edgekit.runtimes.device import AUTO, built_providers, choice_for_gpu, place_of
from edgekit.runtimes.engines.providers import GPU_PRECISIONS, NOT_RUN_HERE, ON_CPU, TENSORRT, Place

BUILT, THERE, NOTHING, FAILED = "built", "there already", "nothing to prepare", "failed"
TIMES = 3  # loads of which the fastest counts, before and after


@dataclass(frozen=True)
class Step:
    """What was done for one file (a tower is one). ``did``: "built", "there already", "nothing to prepare", "failed".

    ``why`` in words; ``seconds`` of building; ``before_ms`` and ``after_ms``: a load of the file in its engine, the
    least of some, without the import; ``folder`` and ``bytes`` of what was built. None: not measured.
    """

    file: str
    engine: str
    device: str
    did: str
    why: str
    seconds: float | None = None
    before_ms: float | None = None
    after_ms: float | None = None
    folder: str = ""
    bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _File:
    """One file that an engine loads: ``name`` in the bundle, ``model`` the name of the model file that it is of."""

    path: Path
    name: str
    model: str
    made_for: str
    inputs: tuple[str, ...]
    output: str
    precision: str

    def load(self, engine: str, place: Place = ON_CPU) -> engines.Engine:
        """The file in ``engine``, on one thread."""
        return engines.create(engine, self.path, 1, self.inputs, self.output, self.precision, place)

    def timed(self, engine: str, place: Place = ON_CPU) -> float:
        """ms of a load, the least of some."""
        times = []
        for _ in range(TIMES):
            began = time.perf_counter()
            self.load(engine, place)
            times.append(1000 * (time.perf_counter() - began))
        return min(times)


def prepare(path: str | Path, device: str = AUTO, rebuild: bool = False, progress: Progress = Silent()) -> list[Step]:
    """Build what the engines here can build ahead for the bundle at ``path``; one :class:`Step` a file.

    OpenVINO: its model cache. onnxruntime on a GPU (``device`` as for :func:`edgekit.load`): TensorRT's engine, for
    texts of 1 to ``max_length`` tokens. ``rebuild``: what is there is thrown away first. The cache is
    ``$EDGEKIT_CACHE``, else ``~/.cache/edgekit``. Raises ``BundleError``, ``InputError`` for a device that is none.
    """
    bundle = open_bundle(path)
    place = place_of(bundle, device)
    files = list(_files(bundle))
    handle, steps = progress.start("prepare", len(files)), []
    for file in files:
        try:
            steps.append(_step(bundle, file, place, rebuild, progress))
        except EdgekitError as error:
            steps.append(Step(file.name, file.made_for, place.device, FAILED, str(error)))
        progress.advance(handle, note=f"{file.name}: {steps[-1].did}")
    progress.finish(handle)
    return steps


def _files(bundle: Bundle) -> Iterator[_File]:
    for model in bundle.manifest.models:
        towers = [one for name in ("image", "text") if (one := model.tower(name)) is not None]
        listed = [(one.path, one.inputs, one.output, one.precision) for one in towers]
        for name, inputs, output, precision in listed or [(model.path, model.inputs, model.output, model.precision)]:
            yield _File(bundle.file(name), name, model.path, model.engine, tuple(inputs), output, precision)


def _step(bundle: Bundle, file: _File, place: Place, rebuild: bool, progress: Progress) -> Step:
    engine = next(filter(engines.installed, engines.readers(file.made_for)), "")
    if not engine:
        why = f"{file.made_for} is not installed: {pip_line(file.made_for)}"
        return Step(file.name, file.made_for, "cpu", NOTHING, why)
    if engine == "openvino":
        return _openvino(file, rebuild, progress)
    if engine != engines.ON_GPU:
        why = f"{engine} loads the file as it lies and keeps nothing between loads"
        return Step(file.name, engine, "cpu", NOTHING, why)
    why = ""
    if place.device == "cpu":
        here = "" if built_providers() else ", and has no provider for a GPU here"
        why = f"onnxruntime loads the ONNX file as it lies{here}"
    elif file.model != (chosen := choice_for_gpu(bundle).file):
        why = f"on device {place.device} {chosen} serves, not this file"
    elif place.device != "gpu" or TENSORRT not in built_providers():
        with _told() as told:
            file.load(engine, place)
        why = "; ".join([*told, "only TensorRT builds ahead"])
    return Step(file.name, engine, place.device, NOTHING, why) if why else _tensorrt(file, place, rebuild, progress)


def _openvino(file: _File, rebuild: bool, progress: Progress) -> Step:
    from edgekit.runtimes.engines.openvino import import_openvino
    from edgekit.runtimes.engines.openvino_cache import folder_of

    folder = folder_of(file.path, import_openvino().__version__)
    if folder.is_dir() and any(folder.iterdir()) and not rebuild:
        after = file.timed("openvino")
        size = _size(folder)
        return Step(file.name, "openvino", "cpu", THERE, "its compiled model", None, None, after, str(folder), size)
    shutil.rmtree(folder, ignore_errors=True)
    before = file.timed("openvino")
    progress.say(f"{file.name}: OpenVINO compiles it")
    private(folder)  # from now on the adapter uses it
    began = time.perf_counter()
    file.load("openvino")
    seconds = time.perf_counter() - began
    after = file.timed("openvino")
    why = "its compiled model, which a load reads instead of compiling"
    return Step(file.name, "openvino", "cpu", BUILT, why, seconds, before, after, str(folder), _size(folder))


def _tensorrt(file: _File, place: Place, rebuild: bool, progress: Progress) -> Step:
    """TensorRT's engine, built when the session is, then run at each length. Not run here."""
    from edgekit.runtimes.engines.onnxruntime import import_onnxruntime
    from edgekit.runtimes.engines.session import engine_folder, example, is_built

    folder = engine_folder(import_onnxruntime(), file.path, place, file.precision)
    if rebuild:
        shutil.rmtree(folder, ignore_errors=True)
    there = is_built(folder)
    progress.say(f"{file.name}: TensorRT's engine for {place.lengths.least} to {place.lengths.most} tokens")
    began = time.perf_counter()
    with _told() as told:
        session: Any = getattr(file.load(engines.ON_GPU, place), "session", None)
        for length in dict.fromkeys(place.lengths):
            progress.say(f"{file.name}: running {length} tokens")
            session.run(None, example(session, length))
    seconds = time.perf_counter() - began
    if not is_built(folder):
        found = "; ".join(told) or "none was built"
        raise EngineError(f"TensorRT's engine of {file.name}", found=found, expected=f"one in {folder}")
    if file.precision not in GPU_PRECISIONS:
        told.append("a file in fp16 or fp32 does better on a GPU")
    why = "; ".join(["TensorRT's engine", *told, NOT_RUN_HERE])
    with _told():
        after = file.timed(engines.ON_GPU, place)
    did, took = (THERE, None) if there else (BUILT, seconds)
    return Step(file.name, engines.ON_GPU, place.device, did, why, took, None, after, str(folder), _size(folder))


@contextmanager
def _told() -> Iterator[list[str]]:
    """What fell back meanwhile, in its own words; that an engine is built is no news here."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", EdgekitWarning)
        yield told
        told += [str(one.message) for one in seen if issubclass(one.category, FallbackWarning)]


def _size(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
