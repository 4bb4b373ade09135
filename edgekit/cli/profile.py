"""``edgekit profile``: latency and memory on this machine, or on a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.options import BundleArgument, Format, FormatOption, names, numbers
from edgekit.cli.output import Column, emit, say
from edgekit.cli.progress import Shown
from edgekit.errors import InputError
from edgekit.progress import Progress

MS = "{:.2f}".format
SPARE = ("tower", "decode_p50_ms", "search_p50_ms", "instructions_m")  # columns of few profiles
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
    Column("instructions_m", "M instructions", "{:.1f}".format),
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
    target: Annotated[
        str, typer.Option("--target", help="Measure there: ssh://user@host[:port]. Default: this machine.")
    ] = "local",
    cpu: Annotated[
        str | None, typer.Option("--cpu", help="Count instructions under qemu instead, as on cortex-a76 (no times).")
    ] = None,
    directory: Annotated[str, typer.Option("--directory", help="With --target: edgekit's folder there.")] = "edgekit",
    wheels: Annotated[
        Path | None, typer.Option("--wheels", help="With --target: take the board's wheels from this folder.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option("--keep", help="With --target: for `compress --device NAME`; measures here too.")
    ] = None,
    form: FormatOption = Format.table,
) -> int:
    """Measure latency and memory on this machine or on a board, and say what would be chosen on it.

    Each row in a fresh process: load, first inference, then percentiles over --runs, in ms.
    """
    options: dict[str, Any] = {
        "threads": numbers("--threads", threads),
        "lengths": None if lengths is None else numbers("--lengths", lengths),
        "batches": numbers("--batch", batch),
        "files": names(file),
        "engine": names(engine) or "auto",
        "precisions": names(precision),
        "runs": runs,
        "warmup": warmup,
    }
    with Shown() as progress:
        if cpu is not None:
            from edgekit.devices import emulated_profile

            found = emulated_profile.profile(bundle, cpu, progress)
        elif target == "local":
            from edgekit.devices.profiler import profile

            found = profile(bundle, **options, pictures=image or [], index=index, progress=progress).to_dict()
        else:
            if image or index is not None:
                raise InputError("--image and --index", found="with --target", expected="golden pictures, no index")
            found = _there(bundle, target, directory, wheels, options, progress)
            if keep is not None:
                from edgekit.devices.profiler import profile
                from edgekit.devices.targets import stored

                here = profile(bundle, **options, progress=progress).to_dict()
                progress.say(f"kept: {stored.keep(keep, found, here)}")
    shown = [column for column in COLUMNS if column.key not in SPARE or any(column.key in row for row in found["rows"])]
    emit(form, found, found["rows"], shown)
    for one in found["failed"]:
        say(f"not measured: {one['engine']}, {one['file']}: {one['cause']}")
    if found["basis"] == "emulated":
        say("emulated: no timing; memory, where it is told, is the emulator's too")
    elif form is not Format.json:
        choice = found["choice"]
        say(f"choice: {choice['engine']}, {choice['file']}, threads {choice['threads']}: {choice['why']}")
    return 0


def _there(
    bundle: Path, target: str, directory: str, wheels: Path | None, options: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    from edgekit.devices.targets import open_target
    from edgekit.devices.targets.measure import profile

    asked = [] if "auto" in options["engine"] else options["engine"]
    with open_target(target) as board:
        return profile(bundle, board, options, directory, asked, wheels, progress)
