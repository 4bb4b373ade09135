"""Flags that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from edgekit.errors import InputError


class Format(StrEnum):
    """How results are printed on stdout."""

    table = "table"
    md = "md"
    json = "json"
    csv = "csv"


FormatOption: TypeAlias = Annotated[Format, typer.Option("--format", help="How to print the result on stdout.")]
DeviceOption: TypeAlias = Annotated[
    str,
    typer.Option("--device", help="cpu, gpu (TensorRT, then CUDA), cuda; auto: gpu on a Jetson that can, else cpu."),
]
SilenceOption: TypeAlias = Annotated[
    float | None,
    typer.Option("--silence", help="Give a board up that makes no progress for so many seconds.", show_default="120"),
]
BundleArgument: TypeAlias = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle, a folder NAME.edge.")]


def numbers(flag: str, text: str) -> list[int]:
    """``"1,2"`` as [1, 2]. Raises InputError naming ``flag``."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(flag, found=repr(text), expected="whole numbers with commas between, such as 1,2") from None


def names(text: str | None) -> list[str] | None:
    """``"a,b"`` as ["a", "b"]; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
