"""``edgekit profile``: latency, memory and heat on this machine or on a board; two profiles side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.options import DeviceOption, Format, FormatOption, SilenceOption, names, numbers
from edgekit.cli.output import Column, emit, new_file, say, to_json
from edgekit.cli.progress import Shown
from edgekit.errors import InputError
from edgekit.progress import Progress

MS = "{:.2f}".format
SPARE = ("tower", "decode_p50_ms", "search_p50_ms", "gpu_share", "energy_mj", "instructions_m")  # mostly empty
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
    Column("mean_ms", "mean", MS),
    Column("mean_low_ms", "low", MS),
    Column("mean_high_ms", "high", MS),
    Column("jitter_ms", "jitter", MS),
    Column("decode_p50_ms", "decode", MS),
    Column("preprocess_p50_ms", "preprocess", MS),
    Column("model_p50_ms", "model", MS),
    Column("postprocess_p50_ms", "postprocess", MS),
    Column("search_p50_ms", "search", MS),
    Column("cpu_ms", "CPU ms", MS),
    Column("utilisation", "busy", "{:.0%}".format),
    Column("gpu_share", "GPU nodes", "{:.0%}".format),
    Column("instructions_m", "M instructions", "{:.1f}".format),
    Column("rss_mb", "peak MB", "{:.0f}".format),
    Column("rss_steady_mb", "steady MB", "{:.0f}".format),
    Column("pss_mb", "PSS MB", "{:.0f}".format),
    Column("energy_mj", "mJ", "{:.1f}".format),
]
OPERATORS = [
    Column("engine", "engine", right=False),
    Column("file", "file", right=False),
    Column("op", "operator", right=False),
    Column("kind", "kind", right=False),
    Column("provider", "provider", right=False),
    Column("calls", "calls"),
    Column("ms", "ms", "{:.3f}".format),
    Column("share", "share", "{:.1%}".format),
]


def command(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="The bundle, a folder NAME.edge.", show_default=False)
    ] = None,
    threads: Annotated[str, typer.Option("--threads", help="Threads; a comma list sweeps.")] = "1",
    lengths: Annotated[
        str | None, typer.Option("--lengths", help="Tokens a text; a comma list sweeps. Default: 16,32,128.")
    ] = None,
    batch: Annotated[str, typer.Option("--batch", help="Texts at once; a comma list sweeps.")] = "1",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Inferences that count, at least.")] = 200,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Seconds of them, at least.")] = 1.0,
    warmup: Annotated[
        int, typer.Option("--warmup", min=0, help="Inferences before them, at least; goes on until times are level.")
    ] = 20,
    engine: Annotated[
        str, typer.Option("--engine", "--engines", help="These engines only; a comma list sets them side by side.")
    ] = "auto",
    precision: Annotated[str | None, typer.Option("--precision", help="Files of these precisions only.")] = None,
    file: Annotated[str | None, typer.Option("--file", help="These model files of the bundle only.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option("--image", help="A picture to measure with (clip); may be given again.")
    ] = None,
    index: Annotated[Path | None, typer.Option("--index", help="Search this index too (clip).")] = None,
    sustain: Annotated[
        float | None, typer.Option("--sustain", help="Then run the best one for so many seconds without a pause.")
    ] = None,
    allow_hot: Annotated[bool, typer.Option("--allow-hot", help="Let --sustain start on a hot board.")] = False,
    ops: Annotated[bool, typer.Option("--ops", help="Then tell the time of each operator.")] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="A B", help="Measure nothing: compare two profiles.", show_default=False),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the profile to this JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older profile.")] = False,
    device: DeviceOption = "auto",
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
    silence: SilenceOption = None,
    form: FormatOption = Format.table,
) -> int:
    """Measure latency and memory on this machine or on a board, and say what would be chosen on it.

    Each row in a process of its own, the rows in turns: load, first inference, then percentiles, in ms.
    """
    if compare is not None:
        from edgekit.cli.compare import compared

        return compared(*compare, form)
    if bundle is None:
        raise InputError("BUNDLE", found="nothing", expected="a folder NAME.edge, or --compare with two profiles")
    if output is not None:
        new_file(output, overwrite)
    options: dict[str, Any] = {
        "threads": numbers("--threads", threads),
        "lengths": None if lengths is None else numbers("--lengths", lengths),
        "batches": numbers("--batch", batch),
        "files": names(file),
        "engine": names(engine) or "auto",
        "precisions": names(precision),
        "runs": runs,
        "warmup": warmup,
        "device": device,
        "seconds": seconds,
        "sustain": sustain,
        "allow_hot": allow_hot,
        "ops": ops,
    }
    with Shown() as progress:
        if cpu is not None:
            from edgekit.devices import emulated_profile

            value = emulated_profile.profile(bundle, cpu, progress)
        elif target == "local":
            from edgekit.devices.profiler import profile

            value = profile(bundle, **options, pictures=image or [], index=index, progress=progress).to_dict()
        else:
            if image or index is not None:
                raise InputError("--image and --index", found="with --target", expected="golden pictures, no index")
            value = _there(bundle, target, silence, directory, wheels, options, progress)
            if keep is not None:
                from edgekit.devices.profiler import profile
                from edgekit.devices.targets import stored

                here = profile(bundle, **options, progress=progress).to_dict()
                progress.say(f"kept: {stored.keep(keep, value, here)}")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(to_json(value) + "\n", encoding="utf-8")
        say(f"wrote {output}")
    present = {key for row in value["rows"] for key, given in row.items() if given is not None}
    shown = [column for column in COLUMNS if column.key in present or column.key not in SPARE]
    emit(form, value, value["rows"], shown)
    for one in value["failed"]:
        say(f"not measured: {one['engine']}, {one['file']}: {one['cause']}")
    failed = [check["name"] for check in (value["verified"] or {}).get("checks", []) if not check["ok"]]
    if failed:
        say(f"not verified here: {', '.join(failed)}; see `edgekit verify`")
    if value["basis"] == "emulated":
        say("emulated: no timing; memory, where it is told, is the emulator's too")
    elif form is not Format.json:
        _more(form, value)
    return 0


def _more(form: Format, value: dict[str, Any]) -> None:
    """What follows the rows: operators, the long run, the choice."""
    every = [{"engine": one["engine"], "file": one["file"], **row} for one in value["ops"] for row in one["rows"]]
    if every and form is not Format.csv:
        print()
        emit(form, {}, every, OPERATORS)
    for one in value["ops"]:
        shares = ", ".join(f"{part['provider']} {part['share']:.1%}" for part in one["providers"])
        say(f"operators: {one['engine']}, {one['file']}: {shares or 'not measured, ' + one['reason']}")
    long = value["sustain"]
    if long is not None:
        say(
            f"sustained {long['seconds']:.0f} s: first {long['window_s']:.0f} s {long['first_minute_p50_ms']:.2f} ms, "
            f"last {long['last_minute_p50_ms']:.2f} ms, ratio {long['ratio']:.3f}; {_heat(long)}"
        )
    if any(row["energy_mj"] is None for row in value["rows"]):
        say("energy: not measured (no sensor that may be read)")
    choice = value["choice"]
    say(f"choice: {choice['engine']}, {choice['file']}, threads {choice['threads']}: {choice['why']}")


def _heat(long: dict[str, Any]) -> str:
    degrees, held = long["series"]["temperature_c"], long["throttle_flags"]
    known = [one for one in degrees or [] if one is not None]
    heat = f"{known[0]:.0f} to {known[-1]:.0f} °C" if known else "temperature not measured"
    return f"{heat}, throttling {'not measured' if held is None else ', '.join(held) or 'none'}"


def _there(
    bundle: Path,
    target: str,
    silence: float | None,
    directory: str,
    wheels: Path | None,
    options: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    from edgekit.devices.targets import open_target
    from edgekit.devices.targets.measure import profile

    asked = [] if "auto" in options["engine"] else options["engine"]
    with open_target(target, silence) as board:
        return profile(bundle, board, options, directory, asked, wheels, progress)
