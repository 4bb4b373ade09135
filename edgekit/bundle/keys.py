"""Ed25519 keys (RFC 8032) in PEM files: made, kept private, read. The package cryptography is imported when needed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.bundle.plain import reason
from edgekit.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

TrustedKey = str | Path | bytes  # a public key's PEM file, or what is in it
MAX_BYTES = 1 << 16
_PACKAGE = "cryptography.hazmat.primitives"


def generate(path: Path, passphrase: str | None = None) -> str:
    """Write a new private key to ``path`` (mode 0600) and its public key to ``path``.pub; returns the key's id.

    With ``passphrase`` the private file is encrypted. Raises ``InputError`` where either file exists or cannot be
    written: a key is never overwritten.
    """
    serialization, ed25519 = _library()
    if passphrase == "":
        raise InputError("the passphrase", found="an empty one", expected="none, or some characters")
    key = ed25519.Ed25519PrivateKey.generate()
    guard = serialization.NoEncryption()
    if passphrase is not None:
        guard = serialization.BestAvailableEncryption(passphrase.encode())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    beside = path.with_name(path.name + ".pub")
    if os.path.lexists(beside):
        raise InputError(f"{beside} exists already", fix="Choose another name: a key is never overwritten.")
    _create(path, key.private_bytes(pem, pkcs8, guard), 0o600)
    try:
        _create(beside, public, 0o644)
    except InputError:
        path.unlink()  # made a moment ago, and known to nobody
        raise
    return key_id(key.public_key())


def key_id(key: Ed25519PublicKey) -> str:
    """What a public key goes by: the sha256 of its 32 bytes, in hex."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def read_private(path: Path, passphrase: str | None = None) -> Ed25519PrivateKey:
    """The private key in ``path``. Raises ``InputError``, also where others than its owner may read the file."""
    serialization, ed25519 = _library()
    data = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        raise InputError(f"{path}: mode", found=f"{mode:04o}", expected="0600", fix=f"chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(data, None if passphrase is None else passphrase.encode())
    except TypeError:  # one is needed and was not given, or the other way round
        found = "an encrypted key and no passphrase" if passphrase is None else "a passphrase for a key without one"
        raise InputError(str(path), found=found, fix="The passphrase is read from EDGEKIT_PASSPHRASE.") from None
    except Exception:  # ValueError for a wrong passphrase, others for other kinds of keys
        raise InputError(str(path), found="no private key, or a wrong passphrase", expected="a PEM file") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(str(path), found="a key of another kind", expected="Ed25519, as edgekit keygen makes")
    return key


def read_public(keys: Sequence[TrustedKey]) -> dict[str, Ed25519PublicKey]:
    """The public ``keys`` by their ids. Raises ``InputError`` for what is not one, ``MissingDependencyError``."""
    if isinstance(keys, str | bytes | Path) or not keys:
        raise InputError("trusted_keys", found=repr(keys)[:80], expected="a list of one public key or more")
    serialization, ed25519 = _library()
    found = {}
    for number, one in enumerate(keys):
        where = f"trusted key {number}" if isinstance(one, bytes) else str(one)
        data = one if isinstance(one, bytes) else _read(Path(one))
        try:
            key = serialization.load_pem_public_key(data)
        except Exception:
            raise InputError(where, found="no public key", expected="a PEM file, as edgekit keygen makes") from None
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise InputError(where, found="a key of another kind", expected="Ed25519, as edgekit keygen makes")
        found[key_id(key)] = key
    return found


def is_encrypted(path: Path) -> bool:
    """Whether the private key in ``path`` has a passphrase. Raises ``InputError`` where it cannot be read."""
    return b"ENCRYPTED" in _read(path)


def _library() -> tuple[Any, Any]:
    try:
        return import_module(f"{_PACKAGE}.serialization"), import_module(f"{_PACKAGE}.asymmetric.ed25519")
    except ImportError as error:
        raise MissingDependencyError(
            "signatures need the package cryptography", found=str(error), fix="pip install edgekit[sign]"
        ) from None


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read", found=reason(error), expected="a key in a PEM file") from None
    if len(data) > MAX_BYTES:
        raise InputError(str(path), found=f"more than {MAX_BYTES} bytes", expected="a key in a PEM file")
    return data


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise InputError(f"{path} exists already", fix="Choose another name: a key is never overwritten.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be written", found=reason(error)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise InputError(f"{path} cannot be written", found=reason(error)) from None
