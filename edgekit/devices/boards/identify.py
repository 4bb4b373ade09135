"""Which board this machine is: by device tree, processor and DMI; and what it shows otherwise than its file says."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.devices.boards.load import load, names
from edgekit.devices.boards.record import Board, Cores, Soc
from edgekit.devices.probe import memory_mb

GiB = 1 << 30
# The firmware and the GPU keep some of the memory: a Pi Zero 2 W shows 416 MiB of its 512.
LEAST_SHOWN = 0.75
CLOCK_SHARE = 0.1  # a kernel's table of clocks need not end where the data sheet does


@dataclass(frozen=True)
class Seen:
    """What a machine shows. ``parts``: processors of each "CPU part"; ``max_mhz``: highest clocks, one a processor."""

    machine: str
    model: str = ""
    compatible: tuple[str, ...] = ()
    product: str = ""
    cpu: str = ""
    parts: dict[str, int] = field(default_factory=dict)
    processors: int = 0
    features: frozenset[str] = frozenset()
    max_mhz: tuple[float, ...] = ()
    memory_mb: float | None = None


@dataclass(frozen=True)
class Disagreement:
    """A ``fact`` that the file states as ``file`` and this machine shows as ``here``."""

    fact: str
    file: str
    here: str


def look(root: Path = Path("/"), machine: str | None = None) -> Seen:
    """What the machine below ``root`` shows; ``machine`` as in ``uname -m``, this one's unless given."""
    blocks = [block for block in _read(root / "proc/cpuinfo").split("\n\n") if block.strip()]
    rows = [dict(_rows(block)) for block in blocks]
    every = [row for row in rows if "processor" in row]
    tree = next((tree for tree in _TREES if (root / tree).is_dir()), _TREES[0])
    clocks = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq"))
    last = rows[-1] if rows else {}
    features = [frozenset((row.get("features") or row.get("flags") or "").split()) for row in every]
    return Seen(
        machine=machine or platform.machine(),
        model=_read(root / tree / "model").strip("\0 \n") or last.get("model", ""),
        compatible=tuple(part for part in _read(root / tree / "compatible").split("\0") if part.strip()),
        product=_read(root / "sys/class/dmi/id/product_name").strip(),
        cpu=every[0].get("model name", "") if every else "",
        parts=dict(Counter(row["cpu part"] for row in every if row.get("cpu part"))),
        processors=len(every),
        features=frozenset.intersection(*features) if features else frozenset(),
        max_mhz=tuple(int(text) / 1000 for path in clocks if (text := _read(path).strip()).isdigit()),
        memory_mb=memory_mb(root),
    )


def identify(seen: Seen) -> Board | None:
    """The board that ``seen`` is. The device tree's ``compatible`` decides, then its model, DMI and the processor."""
    boards = [board for key in names() if (board := load(key)).identity is not None]
    for part in seen.compatible:
        for board in boards:
            if board.identity and part in board.identity.compatible:
                return board
    for shown, kind in ((seen.model, "model"), (seen.product, "product"), (seen.cpu, "cpu")):
        found = [
            (len(begin), board)
            for board in boards
            for begin in getattr(board.identity, kind)
            if shown.lower().startswith(begin.lower())
        ]
        if found:
            return max(found, key=lambda one: one[0])[1]
    return None


def differences(board: Board, seen: Seen) -> list[Disagreement]:
    """Facts of ``board`` that ``seen`` contradicts. What the machine does not show is not held against the file."""
    soc = _chip(board, seen)
    found: list[Disagreement] = []
    if seen.machine != board.architecture:
        found.append(Disagreement("architecture", board.architecture, seen.machine))
    count = sum(cores.count for cores in soc.cores)
    if seen.processors and seen.processors != count:
        found.append(Disagreement("cores", str(count), str(seen.processors)))
    stated = _parts(soc)
    if seen.parts and stated and seen.parts != stated:
        found.append(Disagreement("CPU parts", _counts(stated), _counts(seen.parts)))
    missing = [flag for flag in board.isa if flag not in seen.features]
    if seen.features and missing and seen.machine == board.architecture:
        found.append(Disagreement("instruction set", " ".join(board.isa), f"without {' '.join(missing)}"))
    found += _clocks(soc.cores, seen)
    sizes = board.memory.sizes_gb if board.memory else []
    shown = (seen.memory_mb or 0) * 1e6 / GiB
    if shown and sizes and not any(LEAST_SHOWN * size <= shown <= size for size in sizes):
        found.append(Disagreement("memory", f"{', '.join(f'{size:g}' for size in sizes)} GiB", f"{shown:.2f} GiB"))
    return found


def _chip(board: Board, seen: Seen) -> Soc:
    """Of a board with several chips, the one whose parts are shown; else the first."""
    for soc in board.socs:
        if seen.parts and _parts(soc) == seen.parts:
            return soc
    return board.socs[0]


def _parts(soc: Soc) -> dict[str, int]:
    """How many cores of each "CPU part" a chip has; {} where the file does not say all of them."""
    found: Counter[str] = Counter()
    for cores in soc.cores:
        found[cores.part] += cores.count
    return {} if "" in found else dict(found)


def _clocks(cores: list[Cores], seen: Seen) -> list[Disagreement]:
    stated = [one.max_mhz for one in cores if one.max_mhz]
    if not stated or not seen.max_mhz:
        return []
    low, high = max(stated), max(seen.max_mhz)
    if abs(low - high) <= CLOCK_SHARE * low:
        return []
    return [Disagreement("highest clock", f"{low:g} MHz", f"{high:g} MHz")]


def _counts(parts: dict[str, int]) -> str:
    return ", ".join(f"{count} x {part}" for part, count in sorted(parts.items()))


_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")


def _rows(block: str) -> list[tuple[str, str]]:
    pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
    return [(key.strip().lower(), value.strip()) for key, _, value in pairs]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
