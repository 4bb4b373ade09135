"""What is installed, what is missing and how to get it, and what is known to break on this machine."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.cache import cache_dir
from edgekit.devices.boards import identify, look
from edgekit.devices.boards.advice import advise
from edgekit.devices.probe import environment
from edgekit.runtimes import process
from edgekit.runtimes.engines import gpu
from edgekit.runtimes.engines.providers import HOW, NOT_RUN_HERE

ENGINES = {  # package -> what imports it as the runtime does, with its telemetry off
    "onnxruntime": "from edgekit.runtimes.engines.onnxruntime import import_onnxruntime; import_onnxruntime()",
    "onnxruntime-gpu": "from edgekit.runtimes.engines.onnxruntime import import_onnxruntime; import_onnxruntime()",
    "openvino": "from edgekit.runtimes.engines.openvino import import_openvino; import_openvino()",
    "ai-edge-litert": "import ai_edge_litert.interpreter",
    "tflite-runtime": "import tflite_runtime.interpreter",
}
SAME_MODULE = {"onnxruntime": "onnxruntime-gpu"}  # the other package that brings an engine
GPU = """
from edgekit.runtimes.device import built_providers
from edgekit.runtimes.engines import gpu
print("edgekit:", gpu.architecture(), gpu.tensorrt_version(), *built_providers())
"""
FRESH_ENVIRONMENT = "Use an environment of its own for it."


@dataclass(frozen=True)
class Package:
    """A dependency: ``extra`` is what asks for it (``base`` for the runtime itself), ``version`` None when missing."""

    name: str
    extra: str
    version: str | None
    fix: str


@dataclass(frozen=True)
class Finding:
    """Something checked. ``ok`` False: it is broken, or known to break; ``fix`` says what to do."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Everything the doctor saw; ``ok`` when no finding is broken. A missing extra is no fault."""

    environment: dict[str, Any]
    packages: list[Package]
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with ``schema_version``."""
        return {
            "schema_version": 1,
            "ok": self.ok,
            "environment": self.environment,
            "packages": [asdict(package) for package in self.packages],
            "checks": [asdict(finding) for finding in self.findings],
        }


def examine() -> Diagnosis:
    """Look at this machine. Imports each engine in a process of its own; runs ``pip check`` where pip is there."""
    packages = requirements()
    installed = _installed()
    findings = [
        _python(),
        _base(packages),
        *engine_findings(installed),
        *known_breakages(installed),
        *gpu_findings(installed),
        *_resolved(),
        _cache(),
        _instructions(),
        *board_findings(installed),
        *_habits(),
    ]
    return Diagnosis(environment(), packages, findings)


def requirements() -> list[Package]:
    """The direct dependencies of every extra, as edgekit's metadata (in a checkout, pyproject.toml) state."""
    found = []
    for name, extra in _stated():
        if _key(name) != "edgekit":
            asked = "edgekit" if extra == "base" else f"'edgekit[{extra}]'"
            found.append(Package(name, extra, _version(name), f"pip install {asked}"))
    return found


def _stated() -> list[tuple[str, str]]:
    """(package, extra) of every requirement line."""
    try:
        lines = importlib.metadata.requires("edgekit") or []
    except importlib.metadata.PackageNotFoundError:
        return _stated_in_checkout(Path(__file__).resolve().parents[2] / "pyproject.toml")
    extras = [re.search(r"extra\s*==\s*['\"]([^'\"]+)", line) for line in lines]
    return [(_name(line), found.group(1) if found else "base") for line, found in zip(lines, extras, strict=True)]


def _stated_in_checkout(file: Path) -> list[tuple[str, str]]:
    if not file.is_file():
        return []
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    groups = {"base": project.get("dependencies", []), **project.get("optional-dependencies", {})}
    return [(_name(line), extra) for extra, lines in groups.items() for line in lines]


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def known_breakages(installed: dict[str, str]) -> list[Finding]:
    """Combinations that were seen to fail; ``installed`` maps normalised names to versions."""
    found = []
    torch, vision = installed.get("torch", ""), installed.get("torchvision", "")
    if torch and vision:
        clash = ("+cpu" in torch) != ("+cpu" in vision)
        found.append(
            Finding(
                "torchvision",
                not clash,
                f"torchvision {vision} beside torch {torch}"
                + (": its operators do not load, and then neither does transformers' BertModel" if clash else ""),
                "pip uninstall torchvision, or install the build that matches torch." if clash else "",
            )
        )
    numpy = installed.get("numpy", "0")
    if "tflite-runtime" in installed:
        if _major(numpy) >= 2:
            detail = f"it needs numpy < 2, numpy {numpy} is here"
            found.append(Finding("tflite-runtime", False, detail, FRESH_ENVIRONMENT))
        else:
            found.append(_tflite_runtime(installed))
    if _major(installed.get("transformers", "0")) >= 5:
        found.append(
            Finding(
                "transformers", False, f"{installed['transformers']}; measured on 4.57", "pip install 'transformers<5'"
            )
        )
    pydantic, typing = installed.get("pydantic"), installed.get("typing-extensions")
    if pydantic and typing and _pair(pydantic) >= (2, 12) and _pair(typing) < (4, 14):
        found.append(
            Finding(
                "pydantic",
                False,
                f"pydantic {pydantic} does not import beside typing_extensions {typing}",
                "pip install pydantic==2.11.10",
            )
        )
    both = [name for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino") if name in installed]
    if len(both) > 1:
        found.append(
            Finding(
                "onnxruntime",
                False,
                f"{' and '.join(both)} write the same module",
                f"pip uninstall {' '.join(both)}, then install one.",
            )
        )
    return found


def _tflite_runtime(installed: dict[str, str]) -> Finding:
    detail = (
        f"{installed['tflite-runtime']} answers the INT8 files of newer converters wrongly without a word; "
        "edgekit.load refuses those by their golden vectors"
    )
    if "ai-edge-litert" in installed:
        return Finding("tflite-runtime", True, f"{detail} and gives them to LiteRT, which is here")
    fix = "pip install 'edgekit[litert]', or compress with tflite-runtime among the engines."
    return Finding("tflite-runtime", True, detail, fix)


def board_findings(installed: dict[str, str], root: Path = Path("/"), machine: str | None = None) -> list[Finding]:
    """What is known of the board below ``root``; nothing where it is none that edgekit knows."""
    seen = look(root, machine)
    board = identify(seen)
    if board is None:
        return []
    return [Finding(one.name, one.ok, one.detail, one.fix) for one in advise(board, seen, installed)]


def _python() -> Finding:
    here = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, f"{here} at {sys.executable}", "" if ok else "Use Python 3.11 or newer.")


def _base(packages: list[Package]) -> Finding:
    missing = [package.name for package in packages if package.extra == "base" and package.version is None]
    detail = f"missing: {', '.join(missing)}" if missing else "the device runtime's packages are here"
    return Finding("edgekit", not missing, detail, "pip install edgekit" if missing else "")


def engine_findings(installed: dict[str, str]) -> list[Finding]:
    """Which engines are here, and whether each can be imported: tried in a process of its own, since some crash."""
    here = {name: installed[name] for name in ENGINES if name in installed}
    if not here:
        return [Finding("engine", False, "none is installed, so no bundle runs", "pip install 'edgekit[onnxruntime]'")]
    told = ", ".join(f"{name} {version}" for name, version in here.items())
    optional = ("tflite-runtime", *SAME_MODULE.values())
    missing = [one for one in ENGINES if one not in (*here, *optional) and SAME_MODULE.get(one) not in here]
    detail = f"{told}; missing: {', '.join(missing)}" if missing else told
    return [Finding("engine", True, detail), *(_import(name) for name in here)]


def gpu_findings(installed: dict[str, str], root: Path = Path("/")) -> list[Finding]:
    """What serves on a Jetson's GPU, or with onnxruntime-gpu anywhere; nothing elsewhere. No GPU was run here."""
    if not gpu.is_jetson(root) and "onnxruntime-gpu" not in installed:
        return []
    done = subprocess.run(
        [sys.executable, "-c", GPU], capture_output=True, text=True, env=process.environment(), check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("edgekit: ")]
    if not lines:
        return []  # the import is told already
    architecture, tensorrt, *built = lines[-1].split()[1:]
    seen = f"GPU {architecture}, TensorRT {tensorrt}"
    if built:
        detail = f"{seen}; onnxruntime has {', '.join(built)}; {NOT_RUN_HERE}"
        return [Finding("gpu", True, detail, "`edgekit prepare BUNDLE` builds ahead, `verify --device gpu` tells.")]
    detail = f"{seen}; the onnxruntime that is installed runs on the CPU alone"
    return [Finding("gpu", "onnxruntime-gpu" not in installed, detail, f"For the GPU: {HOW}.")]


def _import(package: str) -> Finding:
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-c", ENGINES[package]],
            capture_output=True,
            text=True,
            env=process.environment(),
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(f"import {package}", False, str(error), f"pip install --force-reinstall {package}")
    if done.returncode == 0:
        return Finding(f"import {package}", True, f"{time.perf_counter() - began:.1f} s with Python's own start")
    cause = f"signal {-done.returncode}" if done.returncode < 0 else (done.stderr.strip().splitlines() or ["fails"])[-1]
    fix = "This processor lacks what the wheel was built for." if done.returncode == -signal.SIGILL else ""
    return Finding(f"import {package}", False, cause, fix or f"pip install --force-reinstall {package}")


def _resolved() -> list[Finding]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if "No module named pip" in done.stderr:
        return []
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode == 0:
        return [Finding("pip check", True, "no broken requirements")]
    return [Finding("pip check", False, line, "pip install -c constraints.txt again.") for line in lines[:10]]


def _cache() -> Finding:
    folder = cache_dir()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free / 1e9
    if not os.access(there, os.W_OK):
        return Finding("cache", False, f"{folder} cannot be written", "Name another folder in EDGEKIT_CACHE.")
    return Finding("cache", free >= 2, f"{folder}, {free:.1f} GB free", "" if free >= 2 else "Free at least 2 GB.")


def _instructions() -> Finding:
    seen = environment()
    fast = {"amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm"} & set(seen["flags"])
    detail = f"{seen['cpu']}: {seen['isa']}"
    if not fast:
        detail += "; no INT8 dot product, expect less from INT8 (and saturated sums on x86)"
    return Finding("instruction set", True, detail)


def _habits() -> list[Finding]:
    found = []
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.is_file() and (name := governor.read_text().strip()) != "performance":
        found.append(Finding("governor", True, f"{name}: profiles vary with it"))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if os.environ.get(name):
            found.append(Finding(name, True, f"{os.environ[name]}: training uses no more threads than that"))
    return found


def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for one in importlib.metadata.distributions():
        if one.metadata["Name"]:
            found.setdefault(_key(one.metadata["Name"]), one.version)
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return _version(SAME_MODULE[name]) if name in SAME_MODULE else None


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pair(version: str) -> tuple[int, int]:
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (numbers[0] if numbers else 0, 0)


def _major(version: str) -> int:
    return _pair(version)[0]
