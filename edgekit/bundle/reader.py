"""Opening a bundle: everything is checked before anything is used."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import manifest as manifests
from edgekit.bundle.keys import TrustedKey
from edgekit.bundle.plain import kind, open_plain, read_plain, reason
from edgekit.bundle.records import FileEntry, Manifest
from edgekit.errors import BundleError, InputError, TrustError


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder, its manifest, and the ids of the trusted keys that signed it."""

    root: Path
    manifest: Manifest
    signers: tuple[str, ...] = ()

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists. Raises ``BundleError`` for any other name."""
        if not any(entry.path == name for entry in self.manifest.files):
            raise BundleError(f"{self.root.name}: {name!r:.80}", found="not listed in the manifest")
        return self.root / name


def open_bundle(
    path: str | Path,
    check_hashes: bool = True,
    *,
    trusted_keys: Sequence[TrustedKey] | None = None,
    minimum_release: int | None = None,
) -> Bundle:
    """Check the bundle at ``path`` and open it.

    Names, kinds and sizes of all files are always checked, their sha256 when ``check_hashes``. With ``trusted_keys``
    (PEM files of public keys, or their bytes) the manifest must be signed by one of them, which is checked before it
    is parsed, and state ``minimum_release`` or more. Raises :class:`BundleError` naming the first file that is missing,
    extra, damaged, or not a plain file, :class:`TrustError` for what is not signed so.
    """
    root = Path(path)
    data = manifest_bytes(root)
    if trusted_keys is not None and not check_hashes:
        raise InputError("check_hashes", found="False with trusted_keys", expected="True: what is signed are hashes")
    signers = signers_of(root, data, trusted_keys, minimum_release)
    manifest = manifests.parse(data, f"{root.name}/{manifests.NAME}")
    refuse_old(root, manifest, minimum_release)
    refuse_damage(root, manifest, check_hashes)
    return Bundle(root, manifest, signers)


def signers_of(
    root: Path, data: bytes, trusted_keys: Sequence[TrustedKey] | None, minimum_release: int | None = None
) -> tuple[str, ...]:
    """Ids of the ``trusted_keys`` that signed ``data``, the bytes of the manifest; () where no keys are given.

    Raises :class:`TrustError` unless there is one, ``InputError`` for a ``minimum_release`` without keys.
    """
    if trusted_keys is not None:
        from edgekit.bundle.signature import check_folder  # not for those who check none

        return tuple(check_folder(root, data, trusted_keys))
    if minimum_release is not None:
        raise InputError("minimum_release", found="no trusted_keys", expected="both: anybody can write a number")
    return ()


def refuse_old(root: Path, manifest: Manifest, minimum_release: int | None) -> None:
    """Raises :class:`TrustError` for a bundle whose ``release`` is below ``minimum_release``."""
    if minimum_release is not None and manifest.release < minimum_release:
        raise TrustError(
            f"{root.name}/{manifests.NAME}: release",
            found=manifest.release,
            expected=f"{minimum_release} or more",
            fix="It was signed, but it is old: install a newer one.",
        )


def read_manifest(root: Path) -> Manifest:
    """The manifest of the bundle folder ``root``, parsed. Raises ``BundleError``."""
    return manifests.parse(manifest_bytes(root), f"{root.name}/{manifests.NAME}")


def manifest_bytes(root: Path) -> bytes:
    """manifest.json of the bundle folder ``root``, as it lies there. Raises ``BundleError``."""
    try:
        if not stat.S_ISDIR(os.stat(root).st_mode):
            raise BundleError(str(root), found="a file", expected="a bundle folder (NAME.edge)")
    except (OSError, ValueError) as error:
        raise BundleError(f"{root} cannot be opened", found=reason(error), expected="a bundle folder") from None
    return read_plain(root / manifests.NAME, f"{root.name}/{manifests.NAME}", manifests.MAX_BYTES)


def refuse_damage(root: Path, manifest: Manifest, check_hashes: bool = True) -> None:
    """Raises ``BundleError`` for the first of :func:`problems`."""
    for name, problem in problems(root, manifest, check_hashes).items():
        if problem:
            raise BundleError(
                f"{root.name}: {name} {problem}", fix="Copy the bundle again, or make it again with edgekit compress."
            )


def problems(root: Path, manifest: Manifest, check_hashes: bool = True) -> dict[str, str]:
    """What is wrong with each file, by name; an empty text where all is well. Extra files are named too."""
    listed = {entry.path: entry for entry in manifest.files}
    folders = {path.rsplit("/", n)[0] for path in listed for n in range(1, path.count("/") + 1)}
    found: dict[str, str] = {}
    modes: dict[str, int] = {}
    try:
        _walk(root, "", folders, modes)
    except OSError as error:
        return {manifests.NAME: f"is in a folder that cannot be read ({reason(error)})"}
    for name, mode in modes.items():
        if stat.S_ISLNK(mode):
            found[name] = "is a symbolic link; a bundle holds plain files only"
        elif name in (manifests.NAME, manifests.SIGNATURE):
            if not stat.S_ISREG(mode):
                found[name] = f"is a {kind(mode)}, not a plain file"
        elif name not in listed and name not in folders:
            shown = name if name.isprintable() else ascii(name)
            found[shown] = f"is an extra {kind(mode)} that the manifest does not list"
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
        return f"is a {kind(mode)}, not a plain file"
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry.bytes:
                word = "truncated" if size < entry.bytes else "damaged"
                return f"is {word}: {size} bytes, expected {entry.bytes}"
            if check_hashes and hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
                return "is damaged: its sha256 is not the manifest's"
    except OSError as error:
        return f"cannot be read ({reason(error)})"
    return ""
