"""Files to a folder on the board: only those that it does not have yet, known by their sha256."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices.targets.board import ask
from edgekit.devices.targets.target import Target
from edgekit.errors import TargetError
from edgekit.progress import Progress, Silent

CHUNK = 1 << 20
SPARE = 32 << 20  # bytes that a board keeps free: logs and state files must go on


@dataclass(frozen=True)
class Plan:
    """What is to go where. ``missing``: names of ``files`` that the board lacks; ``free``: bytes that it has."""

    root: str
    files: Mapping[str, Path]
    hashes: Mapping[str, tuple[str, int]]
    missing: list[str]
    free: int

    @property
    def bytes(self) -> int:
        """That have to be sent."""
        return sum(self.hashes[name][1] for name in self.missing)

    @property
    def total(self) -> int:
        """Of all files."""
        return sum(size for _, size in self.hashes.values())


def compare(target: Target, root: str, files: Mapping[str, Path], look: Sequence[str] = ()) -> Plan:
    """What the folder ``root`` of ``target`` lacks of ``files`` (name -> file here) and cannot take from ``look``.

    ``look``: patterns of absolute folders there. Whatever else lies in ``root`` is removed.
    """
    hashes = {name: _sha256(path) for name, path in sorted(files.items())}
    answer = ask(target, {"do": "missing", "root": root, "files": hashes, "look": list(look)})
    return Plan(root, files, hashes, answer["missing"], answer["free"])


def need(target: Target, what: str, needed: int, free: int) -> None:
    """Raises ``TargetError`` where ``free`` bytes are too few for ``needed`` and something to spare."""
    if needed + SPARE > free:
        raise TargetError(
            f"{target.name}: space for {what}",
            found=f"{free / 1e6:.0f} MB free",
            expected=f"{(needed + SPARE) / 1e6:.0f} MB",
            fix="Free space on the board, or name a folder on another disk: --directory.",
        )


def send(target: Target, plan: Plan, label: str, progress: Progress = Silent()) -> None:
    """Send what ``plan`` lacks. Each file is there whole or not at all, so a transfer that was cut off goes on."""
    if not plan.missing:
        return
    handle = progress.start(label, max(1, plan.bytes // CHUNK))
    wanted = {name: plan.hashes[name] for name in plan.missing}
    try:
        ask(target, {"do": "receive", "root": plan.root, "files": wanted}, _tar(plan, progress, handle))
    finally:
        progress.finish(handle)


def _tar(plan: Plan, progress: Progress, handle: int) -> Iterator[bytes]:
    """A tar stream of the missing files, in pieces."""
    for number, name in enumerate(plan.missing, 1):
        size = plan.hashes[name][1]
        head = tarfile.TarInfo(name)
        head.size = size
        yield head.tobuf(tarfile.PAX_FORMAT)
        with open(plan.files[name], "rb") as file:
            while block := file.read(CHUNK):
                yield block
                progress.advance(handle, note=f"{name}, {number} of {len(plan.missing)}")
        yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _sha256(path: Path) -> tuple[str, int]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.seek(0, io.SEEK_END)
