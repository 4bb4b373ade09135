"""``edgekit verify``: does the bundle keep its promises on this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, DeviceOption, Format, FormatOption, names
from edgekit.cli.output import Column, emit, say
from edgekit.cli.progress import Shown
from edgekit.errors import InputError, VerificationError

COLUMNS = [
    Column("ok", "", lambda ok: "ok" if ok else "FAILED", right=False),
    Column("name", "check", right=False),
    Column("detail", "detail", right=False),
]


def command(
    bundle: BundleArgument,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: all that may be used.")] = None,
    cpu: Annotated[
        str | None, typer.Option("--cpu", help="Check under qemu instead, as on cortex-a72,cortex-a76; one thread.")
    ] = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="A trusted public key, FILE.pub; may be given again.")
    ] = None,
    minimum_release: Annotated[
        int | None, typer.Option("--minimum-release", help="With --key: the least release that may be signed.")
    ] = None,
    device: DeviceOption = "auto",
    form: FormatOption = Format.table,
) -> int:
    """Check hashes, tokenizer and golden vectors, with --key the signature. Exit code 4 when a check fails."""
    if not bundle.exists():
        raise InputError(str(bundle), found="no such path", expected="a bundle", fix="Check the path.")
    if cpu is not None and (key or minimum_release is not None):
        raise InputError("--cpu", found="--key too", expected="one of them", fix="A signature has no processor.")
    if cpu is not None and device not in ("auto", "cpu"):
        raise InputError("--cpu", found=f"--device {device} too", expected="one of them")
    if cpu is None:
        from edgekit.runtimes.verify import verify

        report = verify(bundle, threads, device, trusted_keys=key or None, minimum_release=minimum_release)
    else:
        from edgekit.devices import emulate

        with Shown() as progress:
            report = emulate.verify(bundle, names(cpu) or [], progress)
    found = report.to_dict()
    emit(form, {"bundle": str(bundle), **found}, found["checks"], COLUMNS)
    if report.ok:
        return 0
    failed = [check.name for check in report.checks if not check.ok]
    say(f"{bundle}: {len(failed)} of {len(report.checks)} checks failed: {', '.join(failed)}")
    return VerificationError.exit_code
