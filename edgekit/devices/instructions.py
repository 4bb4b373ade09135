"""How many instructions an inference takes on ARM processors, counted under qemu-user by a plugin (insncount.c).

Emulation says nothing of time, but what it executes is what a board would: whether the INT8 kernels really run, and
how much work they save. Counts repeat to within a percent.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from edgekit.bundle import open_bundle
from edgekit.devices import emulate
from edgekit.devices.compiled import library
from edgekit.devices.examples import to_json
from edgekit.errors import MissingDependencyError
from edgekit.progress import Progress, Silent
from edgekit.runtimes.check import golden_of

SOURCE = Path(__file__).with_name("insncount.c")
RUNS = 3
_MARK = re.compile(r"^EDGEKIT-INSN (\d+) (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Count:
    """Of one model file on ``cpu``: millions of instructions an inference, tokenizing and Python included.

    ``dot_products_m``: those of them that multiply INT8 in groups (SDOT, UDOT, SMMLA, UMMLA). ``reason``: why there is
    no count; both are None then.
    """

    file: str
    engine: str
    precision: str
    cpu: str
    instructions_m: float | None = None
    dot_products_m: float | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def emulator() -> list[str]:
    """qemu with the counter. Raises ``MissingDependencyError``: static builds of qemu take no plugins."""
    found = shutil.which("qemu-aarch64")
    if found is None:
        raise MissingDependencyError(
            "qemu-user for arm64 that takes plugins",
            found="no qemu-aarch64 on the PATH",
            fix="apt-get install --no-install-recommends qemu-user",
        )
    plugin = library(SOURCE)
    if isinstance(plugin, str):
        raise MissingDependencyError("the instruction counter", found=plugin, fix="apt-get install gcc libc6-dev")
    return [found, "-plugin", str(plugin)]


def count(
    path: str | Path,
    cpus: Sequence[str] = tuple(emulate.PROCESSORS),
    files: Sequence[str] | None = None,
    example: Any = None,
    progress: Progress = Silent(),
) -> list[Count]:
    """The model ``files`` of the bundle at ``path`` (all unless given) on each of ``cpus``: the median of ``RUNS``.

    ``example``: what is answered, the longest golden text or the first picture unless given. Raises as
    :func:`edgekit.devices.emulate.answers`.
    """
    bundle = open_bundle(path)
    if example is None:
        golden = golden_of(bundle)
        examples = golden.examples if golden else [""]
        example = max(examples, key=len) if isinstance(examples[0], str) else examples[0]
    command, root = emulator(), emulate.ready(cpus, progress)
    models = [model for model in bundle.manifest.models if files is None or model.path in files]
    given = {"bundle": str(bundle.root.resolve()), "example": to_json(example), "runs": RUNS}

    def on(cpu: str) -> list[Count]:
        found = []
        for model in models:
            told, how, err = emulate.run_guest({**given, "file": model.path}, cpu, root, command)
            marks = [(int(a), int(b)) for a, b in _MARK.findall(err)][-RUNS - 1 :]
            if not told or len(marks) <= RUNS:
                last = ([line for line in err.splitlines() if not _MARK.match(line)] or ["it said nothing"])[-1]
                reason = f"no count ({how}): {last}"
                found.append(Count(model.path, model.engine, model.precision, cpu, reason=reason))
                continue
            each = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks)]
            all_m, products_m = (round(median(one) / 1e6, 3) for one in zip(*each, strict=True))
            engine, precision = told[0]["engine"], told[0]["precision"]
            found.append(Count(model.path, engine, precision, cpu, all_m, products_m))
        return found

    return [one for found in emulate.each(on, cpus, progress) for one in found]
