"""``edgekit deploy``: a bundle to a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, Format, FormatOption, SilenceOption, names
from edgekit.cli.output import emit, say
from edgekit.cli.progress import Shown
from edgekit.cli.verify import COLUMNS
from edgekit.errors import VerificationError


def command(
    bundle: BundleArgument,
    target: Annotated[str, typer.Option("--target", help="ssh://user@host[:port], or local.")],
    engine: Annotated[
        str | None, typer.Option("--engine", "--engines", help="Install these only. Default: all of the bundle's.")
    ] = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="A trusted public key, FILE.pub; may be given again.")
    ] = None,
    minimum_release: Annotated[
        int | None, typer.Option("--minimum-release", help="With --key: the least release that may be signed.")
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="It counts as seen to work: no application there confirms it.")
    ] = False,
    directory: Annotated[
        str, typer.Option("--directory", help="edgekit's folder there, absolute or below the user's home.")
    ] = "edgekit",
    wheels: Annotated[
        Path | None, typer.Option("--wheels", help="Take the board's wheels from this folder, without pip.")
    ] = None,
    silence: SilenceOption = None,
    form: FormatOption = Format.table,
) -> int:
    """Send a bundle and what runs it to a board, prove it there, and switch to it in one step.

    Only what changed is sent; the last bundle stays as the way back. Interrupted at any point, the board runs what it
    ran before. Exit code 4 when a check fails there.
    """
    from edgekit.devices.targets import open_target
    from edgekit.devices.targets.deploy import deploy

    with Shown() as progress, open_target(target, silence) as board:
        found = deploy(
            bundle,
            board,
            folder=directory,
            engines=names(engine) or (),
            trusted_keys=key or (),
            minimum_release=minimum_release,
            confirm=confirm,
            wheels=wheels,
            progress=progress,
        )
    emit(form, found.to_dict(), found.checks, COLUMNS)
    if not found.ok:
        failed = [check["name"] for check in found.checks if not check["ok"]]
        say(f"{target}: not deployed, {len(failed)} of {len(found.checks)} checks failed there: {', '.join(failed)}")
        return VerificationError.exit_code
    assert found.state is not None
    say(f"{target}: {found.state['current']} {'is current' if found.changed else 'was current already'}")
    say(f"sent {found.sent_bytes / 1e6:.1f} MB; the way back: {found.state['fallback'] or 'none'}")
    say(f"there: {found.python} runs Slots({found.slots!r}).load()")
    return 0
