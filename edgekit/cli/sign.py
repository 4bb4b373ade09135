"""``edgekit keygen`` and ``edgekit sign``: who a bundle comes from."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, Format, FormatOption
from edgekit.cli.output import Column, emit
from edgekit.errors import InputError

PASSPHRASE = "EDGEKIT_PASSPHRASE"
COLUMNS = [Column("key_id", "key", right=False), Column("file", "file", right=False)]


def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; the public one: FILE.pub.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help=f"Encrypt it, with ${PASSPHRASE} or what is asked for.")
    ] = False,
    form: FormatOption = Format.table,
) -> int:
    """Make a pair of keys to sign bundles with. A file that exists is never overwritten."""
    from edgekit.bundle.keys import generate

    name = generate(file, _passphrase(confirm=True) if passphrase else None)
    public = file.with_name(file.name + ".pub")
    rows = [{"key_id": name, "file": str(public)}]
    emit(form, {"key_id": name, "private": str(file), "public": str(public)}, rows, COLUMNS)
    return 0


def command(
    bundle: BundleArgument,
    key: Annotated[list[Path], typer.Option("--key", help="A private key's file; again for more signatures.")],
    release: Annotated[
        int | None, typer.Option("--release", help="A number that grows, against older bundles coming back.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the signatures that it has.")] = False,
    form: FormatOption = Format.table,
) -> int:
    """Sign a bundle: its manifest, which names the sha256 of every file."""
    from edgekit.bundle.keys import is_encrypted
    from edgekit.bundle.sign import sign

    secret = _passphrase(confirm=False) if any(map(is_encrypted, key)) else None
    ids = sign(bundle, key, passphrase=secret, release=release, overwrite=overwrite)
    rows = [{"key_id": name, "file": str(one)} for name, one in zip(ids, key, strict=True)]
    emit(form, {"bundle": str(bundle), "signatures": rows}, rows, COLUMNS)
    return 0


def _passphrase(confirm: bool) -> str:
    """From the environment, else from the person."""
    given = os.environ.get(PASSPHRASE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise InputError("the passphrase", found=f"no ${PASSPHRASE} and no terminal", expected="one of the two")
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True))
