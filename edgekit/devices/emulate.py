"""A bundle on ARM processors that this machine does not have: qemu-user runs the device runtime in an arm64 userland.

It shows what a board answers, never how fast: emulation slows every kernel by a factor of its own. No root, chroot or
binfmt is needed: qemu looks for every absolute path in a folder of ours first.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

import edgekit.errors as errors
from edgekit.bundle import ModelFile, open_bundle
from edgekit.devices.examples import to_json
from edgekit.devices.userland import PYTHON, userland
from edgekit.errors import InputError, MissingDependencyError
from edgekit.progress import Progress, Silent, track
from edgekit.runtimes import isa
from edgekit.runtimes.check import golden_of
from edgekit.runtimes.threads import usable_cpus
from edgekit.runtimes.verify import Check, VerifyReport

T = TypeVar("T")
Floats = npt.NDArray[np.float32]
TIMEOUT_S = 3600.0  # of one process: more than a large bundle takes, so that one that hangs gives its reason
_QEMU = ("qemu-aarch64-static", "qemu-aarch64")


@dataclass(frozen=True)
class Processor:
    """What the kernel of such a board writes to /proc/cpuinfo. Engines choose their kernels by it."""

    part: str
    revision: int
    features: str


# By qemu's names. A72: Raspberry Pi 4. A76: Raspberry Pi 5, and the nearest to a Jetson Orin's A78AE.
# Their kernels differ: only the second has the dot-product instructions that INT8 kernels use.
PROCESSORS = {
    "cortex-a72": Processor("0xd08", 3, "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": Processor(
        "0xd0b",
        1,
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
}


@dataclass(frozen=True)
class Answers:
    """What one model file, or tower's file, answered on ``cpu``: a float32 array an example, (C,), (D,) or (words, C).

    ``isa``: what the runtime took the board for. ``reason``: why there is no answer; ``outputs`` is empty then.
    """

    file: str
    engine: str
    precision: str
    cpu: str
    isa: str
    outputs: list[Floats] = field(default_factory=list)
    reason: str = ""


def answers(
    path: str | Path,
    cpus: Sequence[str] = tuple(PROCESSORS),
    examples: Sequence[Any] | None = None,
    progress: Progress = Silent(),
) -> list[Answers]:
    """Each model file of the bundle at ``path`` on each of ``cpus``: every example alone, in one thread.

    ``examples``: texts, or pictures uint8 (H, W, 3) with captions; None takes the golden ones. Of a dual encoder each
    tower has a row. A file or an engine that fails or dies gives its reason. Raises ``InputError`` for another
    processor, ``BundleError``, and ``MissingDependencyError`` when qemu or the userland cannot be had.
    """
    bundle = open_bundle(path)
    if examples is None:
        golden = golden_of(bundle)
        examples = golden.examples if golden else []
    given = [to_json(one) for one in examples]
    root = ready(cpus, progress)

    def on(cpu: str) -> list[Answers]:
        waiting, found = list(bundle.manifest.every_model), []
        while waiting:
            job = {"bundle": str(bundle.root.resolve()), "files": [model.path for model in waiting], "examples": given}
            told, reason = _run(job, cpu, root)
            found += [row for model, one in zip(waiting, told, strict=False) for row in _answers(model, cpu, one)]
            if len(told) < len(waiting):  # the next one killed the process; those after it go into another
                found += _answers(waiting[len(told)], cpu, {"error": reason})
            waiting = waiting[len(told) + 1 :]
        return found

    return [one for found in each(on, cpus, progress) for one in found]


def _answers(model: ModelFile, cpu: str, told: dict[str, Any]) -> list[Answers]:
    if "error" in told:
        return [Answers(model.path, model.engine, model.precision, cpu, isa_of(cpu), reason=told["error"])]
    rows = []
    for file, given in told["outputs"].items():
        outputs = [np.array(item["values"], np.float32).reshape(item["shape"]) for item in given["values"]]
        bad = sum(not np.isfinite(output).all() for output in outputs)
        reason = f"{bad} of {len(outputs)} outputs hold NaN or infinity" if bad else ""
        held = [] if bad else outputs
        rows.append(Answers(file, told["engine"], given["precision"], cpu, told["isa"], held, reason))
    return rows


def verify(path: str | Path, cpus: Sequence[str] = tuple(PROCESSORS), progress: Progress = Silent()) -> VerifyReport:
    """The bundle's own verify on each of ``cpus``; the name of each check ends with the processor.

    Raises as :func:`answers`, but a bundle that is damaged fails its checks instead.
    """
    root = ready(cpus, progress)
    job = {"bundle": str(Path(path).resolve())}
    checks = []
    for cpu, (told, reason) in zip(cpus, each(lambda cpu: _run(job, cpu, root), cpus, progress), strict=True):
        if not told:
            checks.append(Check(f"verify on {cpu}", False, reason))
        for item in told[0]["checks"] if told else []:
            checks.append(Check(f"{item['name']} on {cpu}", item["ok"], item["detail"]))
    return VerifyReport(all(check.ok for check in checks), checks)


def each(what: Callable[[str], T], cpus: Sequence[str], progress: Progress) -> list[T]:
    """``what`` of each processor, as many at once as this machine has processors free."""
    with ThreadPoolExecutor(usable_cpus()) as pool:
        return list(track(progress, "emulate", pool.map(what, cpus), len(cpus)))


def isa_of(cpu: str) -> str:
    """The instruction set that ``cpu`` should be taken for: as its /proc/cpuinfo says."""
    with tempfile.TemporaryDirectory() as name:
        _write_cpuinfo(Path(name), cpu)
        return isa.detect(Path(name), "aarch64")


def qemu() -> str:
    """Path of qemu's program for arm64. Raises ``MissingDependencyError``."""
    for name in _QEMU:
        if found := shutil.which(name):
            return found
    raise MissingDependencyError(
        "qemu-user for arm64",
        found=f"neither {' nor '.join(_QEMU)} on the PATH",
        fix="apt-get install --no-install-recommends qemu-user-static",
    )


def ready(cpus: Sequence[str], progress: Progress = Silent()) -> Path:
    """The userland for ``cpus``. Raises ``InputError``, ``MissingDependencyError``."""
    unknown = [cpu for cpu in cpus if cpu not in PROCESSORS]
    if unknown or not cpus:
        raise InputError("cpu", found=", ".join(unknown) or "none", expected=", ".join(PROCESSORS))
    qemu()
    return userland(progress)


def _run(job: dict[str, Any], cpu: str, root: Path) -> tuple[list[dict[str, Any]], str]:
    """What :mod:`edgekit.devices.guest` answers to ``job`` on ``cpu``, and how its process ended."""
    told, how, err = run_guest(job, cpu, root, [qemu()])
    return told, f"the process died ({how}): {(err.strip().splitlines() or ['it said nothing'])[-1]}"


def run_guest(
    job: dict[str, Any], cpu: str, root: Path, emulator: Sequence[str]
) -> tuple[list[dict[str, Any]], str, str]:
    """What :mod:`edgekit.devices.guest` answers to ``job`` on ``cpu``, how its process ended, and its standard error.

    ``root``: the userland; ``emulator``: qemu for arm64 and its options.
    """
    with _board(root, cpu) as board:
        command = [*emulator, "-cpu", cpu, "-L", str(board)]
        command += [f"{root}/usr/bin/python{PYTHON}", "-m", "edgekit.devices.guest"]
        env = {"PATH": "/usr/bin", "HOME": str(board), "LANG": "C.UTF-8", "PYTHONPATH": f"{board}/app:{root}/site"}
        process = subprocess.Popen(
            command,
            env=env,
            cwd=board,
            text=True,
            errors="replace",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            out, err = process.communicate(json.dumps(job), TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err = f"{err}\nno end after {TIMEOUT_S:.0f} s of emulation"
    how = signal.Signals(-process.returncode).name if process.returncode < 0 else f"exit {process.returncode}"
    told = []
    with suppress(ValueError):  # a last line that was cut off
        for line in out.splitlines():
            told.append(json.loads(line))
    return told, how, err


@contextmanager
def _board(root: Path, cpu: str) -> Iterator[Path]:
    """The folder where qemu looks first: the userland, this edgekit, and the board's own /proc/cpuinfo.

    With the host's cpuinfo onnxruntime crashes; with a Pi 5's on a Cortex-A72 it dies of an illegal instruction.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-board-") as name:
        board = Path(name)
        for part in ("usr", "lib"):
            (board / part).symlink_to(root / part)
        (board / "app").mkdir()
        (board / "app/edgekit").symlink_to(Path(errors.__file__).resolve().parent)
        _write_cpuinfo(board, cpu)
        yield board


def _write_cpuinfo(board: Path, cpu: str) -> None:
    """As many entries as the machine has processors: engines compare them with /sys/devices/system/cpu."""
    entry = (
        "processor\t: {number}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
        "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: {revision}\n\n"
    )
    entries = [entry.format(number=number, **vars(PROCESSORS[cpu])) for number in range(os.cpu_count() or 1)]
    (board / "proc").mkdir()
    (board / "proc/cpuinfo").write_text("".join(entries))
