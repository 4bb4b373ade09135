"""Disks that fail: the power goes before a call, the disk is full from a call on; and what such a disk still holds.

``Disk`` makes every change for real and keeps beside it what a disk would hold if nothing but fsync made it durable: a
file's data by fsync of the file, a folder's names by fsync of the folder.
"""

from __future__ import annotations

import errno
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.runtimes.slots.files import Files


class PowerCut(BaseException):
    """Nothing after this happens; no handler for errors takes it."""


@dataclass
class FileNode:
    data: bytearray = field(default_factory=bytearray)
    durable: bytes | None = None


@dataclass
class FolderNode:
    names: dict[str, FileNode | FolderNode] = field(default_factory=dict)
    durable: dict[str, FileNode | FolderNode] = field(default_factory=dict)


class Disk(Files):
    """``cut``: number of the call before which the power goes, None for never. ``calls``: how many were made."""

    def __init__(self, root: Path, cut: int | None = None) -> None:
        self.root, self.cut, self.calls = root, cut, 0
        self.tree = scan(root)
        self._open: dict[int, FileNode] = {}

    def _step(self) -> None:
        if self.calls == self.cut:
            raise PowerCut
        self.calls += 1

    def _folder(self, path: Path) -> FolderNode:
        node = self.tree
        for part in path.relative_to(self.root).parts:
            below = node.names[part]
            assert isinstance(below, FolderNode)
            node = below
        return node

    def mkdir(self, path: Path) -> None:
        self._step()
        super().mkdir(path)
        self._folder(path.parent).names[path.name] = FolderNode()

    def create(self, path: Path) -> int:
        self._step()
        descriptor = super().create(path)
        names = self._folder(path.parent).names
        node = names.setdefault(path.name, FileNode())
        assert isinstance(node, FileNode)
        node.data.clear()
        self._open[descriptor] = node
        return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        self._step()
        done = super().write(descriptor, data)
        self._open[descriptor].data += data[:done]
        return done

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)
        self._open[descriptor].durable = bytes(self._open[descriptor].data)

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        super().rename(old, new)
        self._folder(new.parent).names[new.name] = self._folder(old.parent).names.pop(old.name)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)
        folder = self._folder(path)
        folder.durable = dict(folder.names)

    def unlink(self, path: Path) -> None:
        self._step()
        super().unlink(path)
        del self._folder(path.parent).names[path.name]

    def rmdir(self, path: Path) -> None:
        self._step()
        super().rmdir(path)
        del self._folder(path.parent).names[path.name]


def scan(path: Path) -> FolderNode:
    """What lies at ``path``, all of it durable."""
    folder = FolderNode()
    for one in sorted(path.iterdir()):
        if one.is_dir():
            folder.names[one.name] = scan(one)
        else:
            data = one.read_bytes()
            folder.names[one.name] = FileNode(bytearray(data), data)
    folder.durable = dict(folder.names)
    return folder


def after_power_cut(node: FolderNode, path: Path, draw: random.Random | None) -> None:
    """Lay out at ``path`` what the disk holds: what was synced alone or, with ``draw``, whatever else it happened on.

    Each name may then be the old or the new one, and data that were not synced may be there in part.
    """
    path.mkdir()
    names = dict(node.durable)
    if draw is not None:
        for name in sorted({*node.durable, *node.names}):
            chosen = draw.choice([node.durable, node.names]).get(name)
            if chosen is None:
                names.pop(name, None)
            else:
                names[name] = chosen
    for name, one in names.items():
        if isinstance(one, FolderNode):
            after_power_cut(one, path / name, draw)
        else:
            data = one.durable or b""
            if draw is not None and bytes(one.data) != data:
                data = draw.choice([data, bytes(one.data[: draw.randint(0, len(one.data))])])
            (path / name).write_bytes(data)


class Full(Files):
    """From call number ``since`` on the disk has no room: nothing can be made or written, only removed.

    ``code``: what the calls raise. A write still takes half of what it was given, as a real one may.
    """

    def __init__(self, since: int, code: int = errno.ENOSPC) -> None:
        self.since, self.code, self.calls = since, code, 0

    def _full(self) -> bool:
        self.calls += 1
        return self.calls > self.since

    def _step(self) -> None:
        if self._full():
            raise OSError(self.code, os.strerror(self.code))

    def mkdir(self, path: Path) -> None:
        self._step()
        super().mkdir(path)

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self._full():
            if self.calls == self.since + 1 and len(data) > 1:
                return super().write(descriptor, data[: len(data) // 2])
            raise OSError(self.code, os.strerror(self.code))
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._step()
        super().rename(old, new)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)


class Dying(Files):
    """The process ends, without a word, before call number ``cut``."""

    def __init__(self, cut: int) -> None:
        self.left = cut

    def __getattribute__(self, name: str) -> object:
        if name in vars(Files):
            if self.left == 0:
                os._exit(9)
            self.left -= 1
        return super().__getattribute__(name)
