"""``edgekit reinforce``: what teachers say of a data set, kept for the training of students."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import Format, FormatOption
from edgekit.cli.output import Column, emit
from edgekit.cli.progress import Shown

COLUMNS = [
    Column("store", "store", right=False),
    Column("pictures", "pictures"),
    Column("captions", "captions"),
    Column("augmentations", "augmentations"),
    Column("size", "pixels"),
    Column("bytes", "bytes"),
    Column("teachers", "teachers", lambda given: ", ".join(one["name"] for one in given), right=False),
]


def command(
    model: Annotated[
        list[str],
        typer.Option("-m", "--model", help="A teacher: folder, hub id or open_clip:NAME/TAG. Again: an ensemble."),
    ],
    data: Annotated[
        str, typer.Option("-d", "--data", help="Table of pictures and captions; or a recipe, whose training part.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the store. A run that was stopped goes on there.")
    ],
    augmentations: Annotated[int, typer.Option("--augmentations", min=1, help="Of each picture.")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Fixes every augmentation.")] = 0,
    dtype: Annotated[str, typer.Option("--dtype", help="Of the stored embeddings: float16 or float32.")] = "float16",
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Pictures a file.")] = 256,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Pixels a side. Default: the largest teacher's.")
    ] = None,
    image_column: Annotated[str | None, typer.Option("--image-column", help="Column of the picture.")] = None,
    text_column: Annotated[str | None, typer.Option("--text-column", help="Column of the caption.")] = None,
    form: FormatOption = Format.table,
) -> int:
    """Ask teachers once about augmentations of every picture and about every caption; students train on the answers."""
    from edgekit.data.store import ReinforceSettings
    from edgekit.distill.clip.reinforce import reinforce

    settings = ReinforceSettings(augmentations=augmentations, seed=seed, dtype=dtype, shard=shard_size)
    with Shown() as progress:
        store = reinforce(model, data, output, settings, size, image_column, text_column, progress)
    row = {
        "store": str(output),
        "pictures": len(store),
        "captions": store.caption_count,
        "augmentations": store.augmentations,
        "size": store.settings.size,
        "dtype": store.settings.dtype,
        "shards": store.shards,
        "bytes": sum(path.stat().st_size for path in output.expanduser().iterdir()),
        "teachers": [{"name": one.name, "sha256": one.sha256, "width": one.width} for one in store.teachers],
    }
    emit(form, row, [row], COLUMNS)
    return 0
