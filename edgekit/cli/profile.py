"""``edgekit profile``: latency and memory on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, DeviceOption, Format, FormatOption, names, numbers
from edgekit.cli.output import Column, emit, say
from edgekit.cli.progress import Shown

MS = "{:.2f}".format
SOME = ("tower", "decode_p50_ms", "search_p50_ms", "gpu_share")  # columns of dual encoders, and of GPUs, alone
COLUMNS = [
    Column("file", "file", right=False),
    Column("engine", "engine", right=False),
    Column("precision", "precision", right=False),
    Column("tower", "tower", right=False),
    Column("threads", "threads"),
    Column("batch", "batch"),
    Column("length", "tokens"),
    Column("load_ms", "load ms", "{:.0f}".format),
    Column("first_ms", "first", MS),
    Column("p50_ms", "p50", MS),
    Column("p90_ms", "p90", MS),
    Column("p95_ms", "p95", MS),
    Column("p99_ms", "p99", MS),
    Column("max_ms", "max", MS),
    Column("decode_p50_ms", "decode", MS),
    Column("preprocess_p50_ms", "preprocess", MS),
    Column("model_p50_ms", "model", MS),
    Column("postprocess_p50_ms", "postprocess", MS),
    Column("search_p50_ms", "search", MS),
    Column("gpu_share", "GPU nodes", "{:.0%}".format),
    Column("rss_mb", "peak MB", "{:.0f}".format),
    Column("rss_steady_mb", "steady MB", "{:.0f}".format),
]


def command(
    bundle: BundleArgument,
    threads: Annotated[str, typer.Option("--threads", help="Threads; a comma list sweeps.")] = "1",
    lengths: Annotated[
        str | None, typer.Option("--lengths", help="Tokens a text; a comma list sweeps. Default: 16,32,128.")
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="Texts at once; a comma list sweeps.")] = "1",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Inferences that count.")] = 200,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Inferences before them.")] = 20,
    engine: Annotated[
        str, typer.Option("--engine", "--engines", help="These engines only; a comma list sets them side by side.")
    ] = "auto",
    precision: Annotated[str | None, typer.Option("--precision", help="Files of these precisions only.")] = None,
    file: Annotated[str | None, typer.Option("--file", help="These model files of the bundle only.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="A picture to measure with (clip); may be given again.")
    ] = None,
    index: Annotated[Path | None, typer.Option("--index", help="Search this index too (clip).")] = None,
    device: DeviceOption = "auto",
    form: FormatOption = Format.table,
) -> int:
    """Measure latency and memory on this machine, and say what would be chosen on it.

    Each row in a fresh process: load, first inference, then percentiles over --runs, in ms.
    """
    from edgekit.devices.profiler import profile

    with Shown() as progress:
        found = profile(
            bundle,
            threads=numbers("--threads", threads),
            lengths=None if lengths is None else numbers("--lengths", lengths),
            batches=numbers("--batch", batch),
            files=names(file),
            engine=names(engine) or "auto",
            precisions=names(precision),
            runs=runs,
            warmup=warmup,
            pictures=image or [],
            index=index,
            device=device,
            progress=progress,
        )
    shown = [column for column in COLUMNS if column.key not in SOME or any(column.key in row for row in found.rows)]
    emit(form, found.to_dict(), found.rows, shown)
    for one in found.failed:
        say(f"not measured: {one['engine']}, {one['file']}: {one['cause']}")
    if form is not Format.json:
        choice = found.choice
        say(f"choice: {choice['engine']}, {choice['file']}, threads {choice['threads']}: {choice['why']}")
    return 0
