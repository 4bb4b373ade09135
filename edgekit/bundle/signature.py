"""signature.json: who signed the bytes of manifest.json, and whether that is one who is trusted."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bundle import keys
from edgekit.bundle.manifest import NAME as MANIFEST
from edgekit.bundle.manifest import SIGNATURE as NAME
from edgekit.bundle.manifest import load_json
from edgekit.bundle.plain import read_plain
from edgekit.bundle.record import Record
from edgekit.errors import BundleError, TrustError

SCHEMA_VERSION = 1
ALGORITHM = "ed25519"
MAX_BYTES = 1 << 16
MAX_SIGNATURES = 16
_SHORT = 16  # hex digits of a key's id that messages show
_SIGN = "edgekit sign BUNDLE --key FILE"


@dataclass(frozen=True)
class Signature(Record):
    """One signature over the bytes of manifest.json. ``signature``: 64 bytes (RFC 8032) in base64."""

    algorithm: str
    key_id: str
    signature: str


@dataclass(frozen=True)
class SignatureFile(Record):
    """All of signature.json."""

    signatures: list[Signature]
    schema_version: int = SCHEMA_VERSION

    def to_bytes(self) -> bytes:
        """The file's one form: whoever reads it compares, so no byte of it can change unseen."""
        value = {"schema_version": self.schema_version, "signatures": [one.to_dict() for one in self.signatures]}
        return (json.dumps(value, indent=1) + "\n").encode()


def parse(data: bytes, where: str = NAME) -> SignatureFile:
    """Read signature.json. Raises ``TrustError`` naming what is wrong."""
    try:
        found: SignatureFile = SignatureFile.from_dict(load_json(data, where, MAX_BYTES), where)
    except BundleError as error:
        raise TrustError(error.what, found=error.found, expected=error.expected, fix=error.fix) from None
    if found.schema_version != SCHEMA_VERSION:
        raise TrustError(
            f"{where}: schema_version",
            found=str(found.schema_version)[:40],
            expected=SCHEMA_VERSION,
            fix="Where it was signed by a newer edgekit, upgrade this one: pip install -U edgekit.",
        )
    if not 1 <= len(found.signatures) <= MAX_SIGNATURES:
        raise TrustError(
            f"{where}: signatures", found=f"{len(found.signatures)} of them", expected=f"1 to {MAX_SIGNATURES}"
        )
    if found.to_bytes() != data:
        raise TrustError(where, found="another way of writing it", expected="the bytes that edgekit sign writes")
    return found


def check(manifest: bytes, signature: bytes, trusted: Sequence[keys.TrustedKey], where: str = NAME) -> list[str]:
    """Ids of the ``trusted`` keys that signed the bytes ``manifest``, one or more.

    Signatures of other keys and algorithms are passed over; one of a trusted key that does not fit is an error.
    Raises ``TrustError``, ``InputError`` for ``trusted`` that are no keys, ``MissingDependencyError``.
    """
    known = keys.read_public(trusted)
    from cryptography.exceptions import InvalidSignature  # read_public has told where it is missing

    found = parse(signature, where)
    signers = []
    for one in found.signatures:
        if one.algorithm != ALGORITHM or one.key_id not in known:
            continue
        try:
            known[one.key_id].verify(_bytes(one.signature, where), manifest)
        except InvalidSignature:
            raise TrustError(
                f"{where}: the signature of key {one.key_id[:_SHORT]}",
                found=f"it is not of this {MANIFEST}",
                expected="the manifest that was signed, byte for byte",
                fix="Copy the bundle again from where it was signed.",
            ) from None
        signers.append(one.key_id)
    if not signers:
        by = ", ".join(f"{one.algorithm[:_SHORT]} {one.key_id[:_SHORT]}" for one in found.signatures)
        raise TrustError(
            f"{where}: no signature of a trusted key",
            found=by,
            expected=" or ".join(name[:_SHORT] for name in known),
            fix=f"Sign it with a trusted key ({_SIGN}), or trust the key that signed it.",
        )
    return signers


def check_folder(root: Path, manifest: bytes, trusted: Sequence[keys.TrustedKey]) -> list[str]:
    """As :func:`check`, of the bundle folder ``root``. Raises ``TrustError`` also where it is not signed."""
    where = f"{root.name}/{NAME}"
    if not os.path.lexists(root / NAME):
        keys.read_public(trusted)  # what is wrong with the keys comes first
        raise TrustError(f"{root.name} is not signed", found=f"no {NAME}", expected="one of a trusted key", fix=_SIGN)
    try:
        data = read_plain(root / NAME, where, MAX_BYTES)
    except BundleError as error:
        raise TrustError(error.what, found=error.found, expected=error.expected) from None
    return check(manifest, data, trusted, where)


def _bytes(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise TrustError(f"{where}: signature", found=repr(text)[:60], expected="64 bytes in base64") from None
