"""What the model files of a bundle answer on older instruction sets than this machine's, found out by running them.

x86-64 only. A small library (hold.c) is preloaded into a fresh process and answers CPUID without the newer features, at
native speed; it needs Linux on a processor with CPUID faulting, and a C compiler. (OpenVINO held by ONEDNN_MAX_CPU_ISA
is neither machine: its own kernels still go by CPUID. On AMX held to AVX512_CORE it went on in bfloat16, emulated, 80
times slower; held to AVX2 it did not load.)
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import numpy as np

from edgekit.bundle import Bundle, open_bundle
from edgekit.bundle.golden import Floats, Golden, Tolerance
from edgekit.cache import cache_dir
from edgekit.devices.child import run_child
from edgekit.devices.compiled import library
from edgekit.errors import BundleError, EdgekitError
from edgekit.progress import Progress, Silent
from edgekit.runtimes import isa
from edgekit.runtimes.check import golden_of
from edgekit.runtimes.choose import Choice, offer
from edgekit.runtimes.golden import differences, file_of, measured

SOURCE = Path(__file__).with_name("hold.c")
LEVELS = {"avx512_vnni": "avx512_vnni", "avx_vnni": "avx_vnni", "avx512": "avx512bw", "avx2": "avx2"}  # to a flag


def levels(root: Path = Path("/")) -> list[str]:
    """The levels of :data:`LEVELS` that this processor has all of, and more."""
    flags, here = isa.cpu_flags(root), isa.detect(root)
    if not here.startswith("x86_64-"):
        return []
    return [name for name, flag in LEVELS.items() if flag in flags and here != f"x86_64-{name}"]


def held(level: str) -> dict[str, str] | str:
    """Environment variables that hold a new process to ``level``, or the reason why that cannot be."""
    library = _library()
    if not isinstance(library, Path):
        return library
    preload = " ".join(filter(None, [str(library), os.environ.get("LD_PRELOAD")]))
    return {"EDGEKIT_HOLD": level, "LD_PRELOAD": preload, "PYTHONFAULTHANDLER": ""}  # that one takes SIGSEGV too


def _library() -> Path | str:
    """The library, compiled into the cache when it is not there yet, or the reason why it cannot be had."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "CPUID can be held on Linux on x86-64 only"
    if "cpuid_fault" not in isa.cpu_flags():
        return "this processor does not offer CPUID faulting (cpuid_fault in /proc/cpuinfo)"
    if set(" :") & set(str(cache_dir().resolve())):
        return f"LD_PRELOAD cannot name a file in {cache_dir()}"
    return library(SOURCE)


def measure(
    bundle: Bundle, golden: Golden, choices: list[Choice], level: str
) -> dict[Choice, dict[str, list[Floats]] | str]:
    """What ``choices`` answer to the golden examples, each alone, on one thread, at ``level``: outputs by tower.

    Models of texts have theirs under "". Or, instead of outputs,
    the reason why one could not be run. A fresh process for each engine.
    """
    environment = held(level)
    if isinstance(environment, str):
        return dict.fromkeys(choices, environment)
    found: dict[Choice, dict[str, list[Floats]] | str] = {}
    models = {model.path: model for model in bundle.manifest.every_model}
    for engine in dict.fromkeys(choice.engine for choice in choices):
        mine = [choice for choice in choices if choice.engine == engine]
        job = {"bundle": str(bundle.root), "answers": mine, "threads": 1, "held": level}
        try:
            answers = run_child(job, environment)["answers"]
        except EdgekitError as error:
            found |= dict.fromkeys(mine, str(error))
            continue
        for choice, answer in zip(mine, answers, strict=True):
            outputs = {
                role: [np.array(one, np.float32) for one in given] for role, given in answer.get("outputs", {}).items()
            }
            for role, given in outputs.items():
                expected = golden.outputs[file_of(models[choice.file], role)]
                if not np.isfinite(differences(expected, given)[0]):
                    answer["error"] = "its answers are not finite, or of another shape"
            found[choice] = answer.get("error", outputs)
    return found


def tolerances(path: str | Path, progress: Progress = Silent()) -> list[Tolerance]:
    """Measured tolerances of the bundle's files for the older instruction sets that could be run here.

    For ``Manifest.golden["tolerances"]``, beside those that it holds already: the list is empty where nothing could be
    run, and for each file and level that could not, the stated tolerance (``isa`` "*") goes on to hold. ``progress``
    is told the reasons. Raises BundleError for a bundle that cannot be read or has no golden vectors.
    """
    bundle = open_bundle(path)
    golden = golden_of(bundle)
    if golden is None:
        raise BundleError(f"{bundle.root.name}: golden vectors", found="none", expected="some to measure with")
    offers = [offer(bundle), *(offer(bundle, rung=rung.name) for rung in bundle.manifest.ladder[1:])]
    ready = [choice for one in offers for choice in one.ready]
    models = {model.path: model for model in bundle.manifest.every_model}
    found: list[Tolerance] = []
    wanted = levels()
    handle = progress.start("older instruction sets", len(wanted))
    reasons: dict[str, None] = {}
    for level in wanted:
        for choice, outputs in measure(bundle, golden, ready, level).items():
            if isinstance(outputs, str):
                reasons[f"{choice.engine} on {level}: {outputs}"] = None
            else:
                model, where = models[choice.file], f"x86_64-{level}"
                known = {(one.file, one.isa) for one in found}  # rungs may share a tower
                fresh = [measured(golden, model, where, given, role) for role, given in outputs.items()]
                found += [one for one in fresh if (one.file, one.isa) not in known]
        progress.advance(handle, note=level)
    progress.finish(handle)
    for reason in reasons:
        progress.say(f"tolerance stated, not measured: {reason}")
    return found
