"""``edgekit verify``: does the bundle keep its promises on this machine?"""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, Format, FormatOption
from edgekit.cli.output import Column, emit, say
from edgekit.errors import InputError, VerificationError

COLUMNS = [
    Column("ok", "", lambda ok: "ok" if ok else "FAILED", right=False),
    Column("name", "check", right=False),
    Column("detail", "detail", right=False),
]


def command(
    bundle: BundleArgument,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: all that may be used.")] = None,
    form: FormatOption = Format.table,
) -> int:
    """Check hashes, tokenizer and golden vectors. Exit code 4 when a check fails."""
    from edgekit.runtimes.verify import verify

    if not bundle.exists():
        raise InputError(str(bundle), found="no such path", expected="a bundle", fix="Check the path.")
    report = verify(bundle, threads)
    found = report.to_dict()
    emit(form, {"bundle": str(bundle), **found}, found["checks"], COLUMNS)
    if report.ok:
        return 0
    failed = [check.name for check in report.checks if not check.ok]
    say(f"{bundle}: {len(failed)} of {len(report.checks)} checks failed: {', '.join(failed)}")
    return VerificationError.exit_code
