"""``edgekit report``: the report of one bundle, or several side by side, on one board or several."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.output import say, to_json
from edgekit.errors import InputError


class ReportFormat(StrEnum):
    """What a report is written as."""

    html = "html"
    md = "md"
    json = "json"


def command(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="One or more bundles.")],
    profiles: Annotated[
        list[Path] | None,
        typer.Option("--profile", metavar="FILE", help="A profile of `edgekit profile -o`; again for more boards."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write. html: NAME.report.html beside the first bundle."),
    ] = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="html writes a file; md and json go to stdout.")] = (
        ReportFormat.html
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older report.")] = False,
) -> int:
    """Show what each stage did, with its proof, and the boards of `--profile`. Several bundles: a comparison first."""
    from edgekit.report import html, markdown, read_all

    data = read_all(bundles, [_profile(path) for path in profiles or []])
    if form is ReportFormat.html:
        text = html(data)
        output = output or bundles[0].resolve().with_suffix(".report.html")
    elif form is ReportFormat.md:
        text = markdown(data)
    else:
        text = to_json({"schema_version": 1, "bundles": data})
    if output is None:
        print(text)
        return 0
    if output.exists() and not overwrite:
        raise InputError(str(output), found="it exists", expected="a new path", fix="Add --overwrite to replace it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    say(f"wrote {output}")
    return 0


def _profile(path: Path) -> dict[str, Any]:
    """The profile in ``path``, with the full name of its board where edgekit knows it."""
    from edgekit.devices.boards import load, names
    from edgekit.devices.profiles import read

    profile = read(path)
    board = profile.get("board")
    return {**profile, "board_title": load(board).name} if board in names() else profile
