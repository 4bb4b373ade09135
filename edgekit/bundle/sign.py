"""Signing a bundle where it lies. A workstation's job; a device only checks."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from edgekit.bundle import keys, signature
from edgekit.bundle import manifest as manifests
from edgekit.bundle.plain import reason
from edgekit.bundle.reader import manifest_bytes, refuse_damage
from edgekit.errors import InputError


def sign(
    path: str | Path,
    private_keys: Sequence[str | Path],
    *,
    passphrase: str | None = None,
    release: int | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Sign the bundle at ``path`` with every one of ``private_keys``; returns their ids.

    All files are checked first. ``release``: what the manifest is to state before it is signed; it may only grow.
    ``passphrase``: of those keys that have one. Killed in between, the bundle is left unsigned. Raises ``BundleError``
    for a damaged bundle, ``InputError`` where it is signed already (unless ``overwrite``) or a key cannot be used.
    """
    if not private_keys:
        raise InputError("--key", found="none", expected="a private key's file")
    private = [
        keys.read_private(Path(one), passphrase if keys.is_encrypted(Path(one)) else None) for one in private_keys
    ]
    root = Path(path).resolve()
    data = manifest_bytes(root)
    manifest = manifests.parse(data, f"{root.name}/{manifests.NAME}")
    refuse_damage(root, manifest)
    if os.path.lexists(root / signature.NAME) and not overwrite:
        raise InputError(
            f"{root.name} is signed already", fix="Pass --overwrite (overwrite=True) to replace its signatures."
        )
    if release is not None and release < max(1, manifest.release):
        raise InputError("release", found=release, expected=f"{max(1, manifest.release)} or more")
    ids = [keys.key_id(one.public_key()) for one in private]
    if len(set(ids)) != len(ids) or len(ids) > signature.MAX_SIGNATURES:
        raise InputError("--key", found=f"{len(ids)} keys", expected=f"1 to {signature.MAX_SIGNATURES}, each once")
    try:
        if release is not None and release != manifest.release:
            data = _released(data, release)
            (root / signature.NAME).unlink(missing_ok=True)  # it would be of another manifest
            _replace(root, manifests.NAME, data)
        made = [
            signature.Signature(signature.ALGORITHM, name, base64.b64encode(one.sign(data)).decode())
            for name, one in zip(ids, private, strict=True)
        ]
        _replace(root, signature.NAME, signature.SignatureFile(made).to_bytes())
    except OSError as error:
        raise InputError(f"{root} cannot be written", found=reason(error)) from None
    return ids


def _released(data: bytes, release: int) -> bytes:
    """The manifest with another ``release``; keys that this version does not know stay."""
    value = {**manifests.load_json(data, manifests.NAME, manifests.MAX_BYTES), "release": release}
    changed = (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    manifests.parse(changed)  # what we write must be what we would read
    return changed


def _replace(root: Path, name: str, data: bytes) -> None:
    """Write ``name`` whole or not at all, by way of a file beside the bundle: in it, a leftover would be an extra."""
    partial = root.parent / f".{root.name}.{secrets.token_hex(8)}.sign"
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, root / name)
        folder = os.open(root, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
