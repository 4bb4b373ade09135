"""``edgekit prepare``: what engines build of a bundle on this machine, built ahead of the first load."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli.options import BundleArgument, DeviceOption, Format, FormatOption
from edgekit.cli.output import Column, emit
from edgekit.cli.progress import Shown

COLUMNS = [
    Column("file", "file", right=False),
    Column("engine", "engine", right=False),
    Column("device", "device", right=False),
    Column("did", "", right=False),
    Column("seconds", "seconds", "{:.1f}".format),
    Column("before_ms", "load before, ms", "{:.0f}".format),
    Column("after_ms", "after", "{:.0f}".format),
    Column("megabytes", "MB", "{:.1f}".format),
    Column("why", "what and why", right=False),
]


def command(
    bundle: BundleArgument,
    device: DeviceOption = "auto",
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Throw away what was built before.")] = False,
    form: FormatOption = Format.table,
) -> int:
    """Build ahead what the first load would wait for: TensorRT's engines, OpenVINO's compiled models.

    It goes into the cache; the bundle is not touched. Exit code 1 when something could not be built.
    """
    from edgekit.runtimes.prepare import FAILED, prepare

    with Shown() as progress:
        steps = prepare(bundle, device, rebuild, progress)
    rows = [{**one.to_dict(), "megabytes": one.bytes / 1e6 if one.bytes else None} for one in steps]
    emit(form, {"bundle": str(bundle), "steps": [one.to_dict() for one in steps]}, rows, COLUMNS)
    return int(any(one.did == FAILED for one in steps))
