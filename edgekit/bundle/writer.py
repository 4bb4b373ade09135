"""Writing a bundle so that a crash at any moment leaves the old one, or nothing."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgekit.bundle import manifest as manifests
from edgekit.bundle.reader import read_manifest
from edgekit.bundle.records import FileEntry, Manifest
from edgekit.errors import BundleError, InputError

_CHUNK = 1 << 20
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100


def write(path: str | Path, manifest: Manifest, files: Mapping[str, Path | bytes], overwrite: bool = False) -> None:
    """Write ``files`` (name in the bundle -> a file to copy, or its bytes) and the manifest to the folder ``path``.

    Sizes and sha256 are taken here, whatever ``manifest.files`` held. The folder is built beside ``path``, synced to
    disk and renamed; with ``overwrite`` an older bundle changes places with it in one step. Raises ``InputError`` when
    ``path`` exists and may not be replaced, when it is not a bundle, or when the disk does not take it.
    """
    target = Path(path).resolve()
    if not target.name:
        raise InputError("the bundle's path", found=repr(str(path)), expected="a folder name such as model.edge")
    for name, source in files.items():
        manifests.check_path(name, "a file of the bundle")
        if not isinstance(source, bytes) and not source.is_file():
            raise InputError(f"{source}, to become {name}", found="no such file")
    _may_replace(target, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        with _building(target) as temporary:
            entries = [_put(temporary, name, source) for name, source in sorted(files.items())]
            data = manifests.dump(dataclasses.replace(manifest, files=entries))
            manifests.parse(data)  # what we write must be what we would read
            _put(temporary, manifests.NAME, data)
            for folder, _, _ in os.walk(temporary):
                _sync(Path(folder))
            _swap(temporary, target, overwrite)
            _sync(target.parent)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written", found=error.strerror or str(error), fix="Free space or choose another place."
        ) from None


def _may_replace(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise InputError(f"{target} exists already", fix="Pass --overwrite (overwrite=True) or another output.")
    try:
        read_manifest(target)
    except BundleError as error:
        # A bundle that is newer or damaged still shows a manifest; any other folder is somebody's work.
        known = ("tokenizer.json", "prompts.safetensors", "golden.safetensors")  # what compress packs has one of them
        if not (target / manifests.NAME).is_file() or not any((target / name).exists() for name in known):
            raise InputError(f"{target} is not a bundle, so it is not replaced", found=error.what) from None


@contextlib.contextmanager
def _building(target: Path) -> Iterator[Path]:
    """A locked folder beside ``target``; whatever has its name at the end is removed."""
    temporary = target.parent / f".{target.name}.{secrets.token_hex(8)}.tmp"
    temporary.mkdir()
    lock = os.open(temporary, os.O_RDONLY)
    try:
        _lock(lock)
        yield temporary
    finally:
        os.close(lock)
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Remove what killed writers of ``target`` left; a folder that a living one holds is locked."""
    for leftover in target.parent.glob(f".{_literal(target.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            lock = os.open(leftover, os.O_RDONLY)
            try:
                if _lock(lock):
                    shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(lock)


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _put(root: Path, name: str, source: Path | bytes) -> FileEntry:
    """Copy one file, sync it, and say what was written."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with open(path, "xb") as out:
        for chunk in _chunks(source):
            digest.update(chunk)
            out.write(chunk)
            size += len(chunk)
        out.flush()
        os.fsync(out.fileno())
    return FileEntry(name, digest.hexdigest(), size)


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with open(source, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _swap(temporary: Path, target: Path, overwrite: bool) -> None:
    """Give ``temporary`` the name ``target``; an old bundle ends under the temporary name."""
    if overwrite and os.path.lexists(target):
        if _exchange(temporary, target):
            return
        aside = temporary.with_suffix(".old.tmp")  # swept by the next writer if we are killed here
        target.rename(aside)
        try:
            temporary.rename(target)
        except OSError:
            aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        return
    os.rename(temporary, target)  # fails when somebody made it meanwhile


def _exchange(a: Path, b: Path) -> bool:
    """Let two names change places in one step (Linux renameat2); False where that is not offered."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if call(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
        return False
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
