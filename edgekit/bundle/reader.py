"""Opening a bundle: everything is checked before anything is used."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import manifest as manifests
from edgekit.bundle.records import FileEntry, Manifest
from edgekit.errors import BundleError


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its manifest."""

    root: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists. Raises ``BundleError`` for any other name."""
        if not any(entry.path == name for entry in self.manifest.files):
            raise BundleError(f"{self.root.name}: {name!r:.80}", found="not listed in the manifest")
        return self.root / name


def open_bundle(path: str | Path, check_hashes: bool = True) -> Bundle:
    """Check the bundle at ``path`` and open it.

    Names, kinds and sizes of all files are always checked, their sha256 when ``check_hashes``. Raises
    :class:`BundleError` naming the first file that is missing, extra, damaged, or not a plain file.
    """
    root = Path(path)
    manifest = read_manifest(root)
    for name, problem in problems(root, manifest, check_hashes).items():
        if problem:
            raise BundleError(
                f"{root.name}: {name} {problem}", fix="Copy the bundle again, or make it again with edgekit compress."
            )
    return Bundle(root, manifest)


def read_manifest(root: Path) -> Manifest:
    """The manifest of the bundle folder ``root``, parsed. Raises ``BundleError``."""
    what = f"{root.name}/{manifests.NAME}"
    try:
        if not stat.S_ISDIR(os.stat(root).st_mode):
            raise BundleError(str(root), found="a file", expected="a bundle folder (NAME.edge)")
    except (OSError, ValueError) as error:
        raise BundleError(f"{root} cannot be opened", found=_reason(error), expected="a bundle folder") from None
    try:
        found = os.lstat(root / manifests.NAME)
        if not stat.S_ISREG(found.st_mode):
            raise BundleError(what, found=_kind(found.st_mode), expected="a plain file")
        with open(root / manifests.NAME, "rb") as file:
            data = file.read(manifests.MAX_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{what} cannot be read", found=_reason(error), expected="a bundle folder") from None
    return manifests.parse(data, what)


def problems(root: Path, manifest: Manifest, check_hashes: bool = True) -> dict[str, str]:
    """What is wrong with each file, by name; an empty text where all is well. Extra files are named too."""
    listed = {entry.path: entry for entry in manifest.files}
    folders = {path.rsplit("/", n)[0] for path in listed for n in range(1, path.count("/") + 1)}
    found: dict[str, str] = {}
    modes: dict[str, int] = {}
    try:
        _walk(root, "", folders, modes)
    except OSError as error:
        return {manifests.NAME: f"is in a folder that cannot be read ({_reason(error)})"}
    for name, mode in modes.items():
        if stat.S_ISLNK(mode):
            found[name] = "is a symbolic link; a bundle holds plain files only"
        elif name != manifests.NAME and name not in listed and name not in folders:
            found[name] = f"is an extra {_kind(mode)} that the manifest does not list"
    for name, entry in listed.items():
        if name not in found:
            found[name] = _problem(root / name, modes.get(name), entry, check_hashes)
    return found


def _walk(root: Path, prefix: str, folders: set[str], modes: dict[str, int]) -> None:
    with os.scandir(root / prefix) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            name = prefix + entry.name
            modes[name] = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(modes[name]) and name in folders:
                _walk(root, name + "/", folders, modes)


def _problem(path: Path, mode: int | None, entry: FileEntry, check_hashes: bool) -> str:
    if mode is None:
        return "is missing"
    if not stat.S_ISREG(mode):
        return f"is a {_kind(mode)}, not a plain file"
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry.bytes:
                word = "truncated" if size < entry.bytes else "damaged"
                return f"is {word}: {size} bytes, expected {entry.bytes}"
            if check_hashes and hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                return "is damaged: its sha256 is not the manifest's"
    except OSError as error:
        return f"cannot be read ({_reason(error)})"
    return ""


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISLNK(mode):
        return "symbolic link"
    return "file" if stat.S_ISREG(mode) else "special file"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
