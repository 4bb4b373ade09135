"""``edgekit index``: a folder of pictures, ready to be searched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, Format, FormatOption
from edgekit.cli.output import Column, emit, say
from edgekit.cli.progress import Shown
from edgekit.errors import InputError

SHOWN = 5  # skipped files that are named
COLUMNS = [
    Column("index", "index", right=False),
    Column("pictures", "pictures"),
    Column("added", "added"),
    Column("kept", "kept"),
    Column("dropped", "dropped"),
    Column("skipped", "skipped", lambda skipped: str(len(skipped))),
    Column("file", "file", right=False),
    Column("engine", "engine", right=False),
]


def command(
    bundle: BundleArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures, in it and below it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The index; one that is there is brought up to date.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="A quarter of the size; see docs/runtime.md for its cost.")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: all that may be used.")] = None,
    engine: Annotated[str, typer.Option("--engine", help="Default: the fastest here.")] = "auto",
    file: Annotated[str | None, typer.Option("--file", help="This model file of the bundle.")] = None,
    form: FormatOption = Format.table,
) -> int:
    """Index a folder of pictures, to be searched by text or picture with `edgekit run --index`.

    Interrupted, it goes on where it was; run again, it embeds only what is new or has changed.
    """
    from edgekit.cli.run_dual import file_of
    from edgekit.runtimes.dual import DualModel
    from edgekit.runtimes.index import Index
    from edgekit.runtimes.index_build import build_index
    from edgekit.runtimes.load import load

    if file is None and engine == "auto" and output.exists():
        file = file_of(bundle, Index.load(output))  # the one that made it
    model = load(bundle, threads=threads, engine=engine, file=file)
    if not isinstance(model, DualModel):
        raise InputError(str(bundle), found=f"a bundle of task {model.spec.task}", expected="clip")
    with Shown() as progress:
        built = build_index(folder, model, progress, output, "int8" if int8 else "float32")
    skipped = [one._asdict() for one in built.skipped]
    row = {
        "index": str(output),
        "pictures": len(built.index),
        "added": built.added,
        "kept": built.kept,
        "dropped": built.dropped,
        "skipped": skipped,
        "file": model.file,
        "engine": model.engine,
    }
    emit(form, {"bundle": str(bundle), **row}, [row], COLUMNS)
    for one in built.skipped[:SHOWN]:
        say(f"skipped: {one.reason}")
    if len(skipped) > SHOWN:
        say(f"skipped: {len(skipped) - SHOWN} more (--format json lists them)")
    return 0
