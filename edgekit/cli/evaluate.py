"""``edgekit eval``: how right every model file of a bundle is."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, Format, FormatOption
from edgekit.cli.output import Column, emit
from edgekit.cli.progress import Shown

COLUMNS = [
    Column("file", "file", right=False),
    Column("engine", "engine", right=False),
    Column("precision", "precision", right=False),
    Column("metric", "metric", right=False),
    Column("value", "value", "{:.4f}".format),
    Column("low", "low (95 %)", "{:.4f}".format),
    Column("high", "high (95 %)", "{:.4f}".format),
    Column("n", "n"),
]


def command(
    bundle: BundleArgument,
    data: Annotated[str, typer.Option("-d", "--data", help="Data to score on: file, folder or id.")],
    teacher: Annotated[bool, typer.Option("--teacher", help="Score the teacher too, in torch.")] = False,
    text_column: Annotated[str | None, typer.Option("--text-column", help="Column of the text or caption.")] = None,
    label_column: Annotated[str | None, typer.Option("--label-column", help="Column of the label or score.")] = None,
    image_column: Annotated[str | None, typer.Option("--image-column", help="Column of the picture (clip).")] = None,
    pair_column: Annotated[str | None, typer.Option("--pair-column", help="Column of the second text.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Default: all that may be used.")] = None,
    form: FormatOption = Format.table,
) -> int:
    """Score every model file of a bundle on data.

    With 95 % intervals; --teacher scores the teacher too, in torch.
    """
    from edgekit.evaluate.bundle import evaluate_bundle

    given = {"image": image_column, "text": text_column, "label": label_column, "pair": pair_column}
    columns = {kind: name for kind, name in given.items() if name is not None}
    with Shown() as progress:
        rows = evaluate_bundle(bundle, data, columns, teacher, threads, progress)
    emit(form, {"bundle": str(bundle), "data": data, "rows": rows}, rows, COLUMNS)
    return 0
