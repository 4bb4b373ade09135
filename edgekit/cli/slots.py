"""``edgekit slots``: install a bundle beside the one that runs, and go back."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import Format, FormatOption
from edgekit.cli.output import Column, emit
from edgekit.errors import InputError

COLUMNS = [
    Column("current", "current", right=False),
    Column("confirmed", "confirmed", lambda yes: "yes" if yes else "no", right=False),
    Column("boots", "boots"),
    Column("fallback", "fallback", lambda name: name or "none", right=False),
    Column("note", "last change", right=False),
]


class Action(StrEnum):
    """What to do with the slots."""

    status = "status"
    install = "install"
    confirm = "confirm"
    rollback = "rollback"


def command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the slots.")],
    action: Annotated[Action, typer.Argument(help="What to do.")] = Action.status,
    bundle: Annotated[Path | None, typer.Argument(metavar="[BUNDLE]", help="The bundle to install.")] = None,
    form: FormatOption = Format.table,
) -> int:
    """Install a bundle beside the one that runs, confirm it, or go back.

    An installed bundle is proven first, and runs from the next start on. Without confirmation the older one comes back
    after three starts.
    """
    from edgekit.runtimes.slots import Slots

    if (bundle is not None) != (action is Action.install):
        raise InputError("BUNDLE", found=str(bundle or "none"), expected="a bundle with install, none otherwise")
    slots = Slots(directory)
    if bundle is not None:
        slots.install(bundle)
    elif action is Action.confirm:
        slots.confirm()
    elif action is Action.rollback:
        slots.rollback()
    state = slots.status()
    if state is None:
        raise InputError(str(directory), found="no bundle", expected="one", fix="edgekit slots DIR install BUNDLE")
    found = state.to_dict()
    emit(form, {"slots": str(directory), **found}, [found], COLUMNS)
    return 0
